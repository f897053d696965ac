"""One notifier for everything that can happen during a test: bytes at the proxy, a message, a line, an exit.

Whoever changes something notifies it; whoever waits says what for, and looks again at every notification. A deadline
only bounds hangs: it is never how a test finds out that something is missing.
"""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from jobqueue_conformance.spec.verdicts import Unmet

Answer = TypeVar("Answer")

LOOK_AGAIN_S = 0.02  # what happens inside Redis notifies nobody


class Hung(Unmet):
    """The awaited thing didn't happen before the deadline."""

    def __init__(self, what: str, deadline_s: float) -> None:
        waited = f"{deadline_s:g} s"
        super().__init__(
            f"waited {waited} for {what}", expected=what, got=f"nothing of that within {waited}"
        )


class Notifier:
    """Wakes those who wait; an exception in a thread that notifies is raised in the waiter, and fails the test."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._failure: BaseException | None = None
        self._count = 0
        self.deadline_s = 10.0

    def notify(self) -> None:
        """Wake everybody who waits."""
        with self._condition:
            self._count += 1
            self._condition.notify_all()

    def fail_with(self, error: BaseException) -> None:
        """Make every wait from now on raise what went wrong in another thread."""
        with self._condition:
            self._failure = self._failure or error
            self._count += 1
            self._condition.notify_all()

    def check(self) -> None:
        """Raise what went wrong in another thread, if anything did."""
        if self._failure is not None:
            raise RuntimeError(f"the kit itself failed: {self._failure!r}") from self._failure

    def clear_failure(self) -> None:
        """Forget what went wrong, which the test has seen."""
        self._failure = None

    def pause(self, pause_s: float) -> None:
        """Let what is under test come as far as it can, where nothing tells when that is."""
        self.check()
        time.sleep(pause_s)
        self.check()

    def happens(self, look: Callable[[], Answer | None], within_s: float) -> Answer | None:
        """What `look` returns within a time, or None: for what must not happen, and where no fence can be set."""
        try:
            return self.wait(look, "what need not happen", within_s)
        except Hung:
            return None

    def wait(
        self, look: Callable[[], Answer | None], what: str, deadline_s: float | None = None
    ) -> Answer:
        """Wait until `look` returns something, and return that.

        Args:
            look: called at every notification, and now and then; it raises when waiting on is pointless.
            what: completes the sentence "waited … s for".
            deadline_s: bounds a hang; the notifier's own when None.

        Raises:
            Hung: nothing came before the deadline.
        """
        deadline_s = self.deadline_s if deadline_s is None else deadline_s
        end_s = time.monotonic() + deadline_s
        while True:
            self.check()
            count = self._count
            answer = look()
            if answer:
                return answer
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                raise Hung(what, deadline_s)
            with self._condition:
                if self._count == count:
                    self._condition.wait(min(left_s, LOOK_AGAIN_S))
