"""One notifier for everything that can happen during a test: bytes at the proxy, a message, a line, an exit.

A thread that changes something notifies it; a thread that waits checks its condition at every notification. A deadline
only bounds hangs: it is never how a test finds out that something is missing. What runs out where it matters is *time
with a processor*: on a machine where three programs want each processor, three seconds count as one.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from jobqueue_conformance.spec.verdicts import Unmet

Answer = TypeVar("Answer")

# Changes inside Redis notify no waiter; one that has waited for long can look less often.
LOOK_AGAIN_S, OF_THE_WAIT, LONGEST_PAUSE_S = 0.02, 0.05, 0.1
STEP_S = 0.01  # in which a budget is spent: to look at the load costs more than most looks
HELD_S = 2.0  # less than the silence after which a program gives a connection up
LOAD = Path("/proc/loadavg")


def contention() -> float:
    """How many programs want each processor at this moment; 1 where none has to wait."""
    try:
        runnable = int(LOAD.read_text().split()[3].partition("/")[0])
    except OSError:  # another system: its average of the last minute
        runnable = int(os.getloadavg()[0])
    return max(1.0, runnable / (os.cpu_count() or 1))


class Budget:
    """Time that a program may take, which passes more slowly while programs have to wait for a processor."""

    def __init__(self, budget_s: float) -> None:
        self._left_s = budget_s
        self._seen_s = time.monotonic()

    def left_s(self) -> float:
        """How much is left at this moment; zero or less once it has run out."""
        now_s = time.monotonic()
        if now_s - self._seen_s >= STEP_S:
            self._left_s -= (now_s - self._seen_s) / contention()
            self._seen_s = now_s
        return self._left_s


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
        """Let what is under test come as far as it can, where no event shows when that is."""
        self.happens(lambda: None, pause_s)

    def pass_time(self, pause_s: float) -> None:
        """Let time pass by the clock on the wall, as Redis and a program's own timers count it."""
        self.happens_by_the_clock(lambda: None, pause_s)

    def happens(self, look: Callable[[], Answer | None], within_s: float) -> Answer | None:
        """What `look` returns within a time, or None: for events that must not happen, if no fence can be set."""
        try:
            return self.wait(look, "what need not happen", within_s)
        except Hung:
            return None

    def happens_while_held(
        self, look: Callable[[], Answer | None], within_s: float
    ) -> Answer | None:
        """As `happens`, while a command is held: not so long that the program takes its connection for silent."""
        until_s = time.monotonic() + HELD_S
        over = object()

        def seen_or_over() -> Answer | object | None:
            return look() or (over if time.monotonic() >= until_s else None)

        found = self.happens(seen_or_over, within_s)
        return None if found is over else found  # type: ignore[return-value] # over is the only other object

    def happens_by_the_clock(
        self, look: Callable[[], Answer | None], within_s: float
    ) -> Answer | None:
        """As `happens`, by the clock on the wall: for what is seen before a program's own timeout, or not at all."""
        until_s = time.monotonic() + within_s
        found: list[Answer | None] = []

        def seen_or_over() -> bool:
            found.append(look())
            return bool(found[-1]) or time.monotonic() >= until_s

        self.wait(seen_or_over, "the end of a moment", within_s + self.deadline_s)
        return found[-1] or None

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
        budget = Budget(deadline_s)
        begun_s = time.monotonic()
        while True:
            self.check()
            count = self._count
            answer = look()
            if answer:
                return answer
            left_s = budget.left_s()
            if left_s <= 0:
                raise Hung(what, deadline_s)
            again_s = max(LOOK_AGAIN_S, OF_THE_WAIT * (time.monotonic() - begun_s))
            with self._condition:
                if self._count == count:
                    self._condition.wait(min(left_s, again_s, LONGEST_PAUSE_S))
