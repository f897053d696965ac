"""How late a thread runs that has nothing to do but to wake up: what a busy machine costs everybody."""

import threading
import time

BEAT_S = 0.02


class Pulse:
    """A thread that wakes up again and again, and how late it did."""

    def __init__(self) -> None:
        self.late: list[tuple[float, float]] = []  # when, by the monotonic clock, and by how much
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        due_s = time.monotonic() + BEAT_S
        while not self._over.wait(due_s - time.monotonic()):
            now_s = time.monotonic()
            self.late.append((now_s, now_s - due_s))
            due_s = now_s + BEAT_S
