"""The fault sweep: repeat a job with a fault at boundary 1, 2, 3, … until none is left.

An attempt holds the job at one boundary; what happens to it there, and what has to be true afterwards, is the test's.
Where bytes wait behind what is held, the boundary is attempted twice: they are lost, or still reach Redis.
"""

from collections.abc import Iterator

from jobqueue_conformance.proxy import boundary
from jobqueue_conformance.proxy.events import Event
from jobqueue_conformance.proxy.proxy import Hold, How, Matches, Proxy
from jobqueue_conformance.spec.verdicts import fail


class Attempt:
    """One job, held at one boundary; `reached` says whether it has so many."""

    def __init__(self, proxy: Proxy, who: str, number: int, *, deliver: bool) -> None:
        self.number = number
        self.deliver = deliver
        self.held = False
        self.waiting = False
        self.fault = ""
        self._proxy = proxy
        self._who = who
        self._hold: Hold | None = None

    def watch(self, *marks: str) -> None:
        """Hold the event at the boundary, of the jobs that carry one of these marks."""
        self.watch_for(boundary.Nth(self.number, *marks))

    def watch_for(self, matches: Matches) -> None:
        """Hold the event that matches."""
        self._hold = self._proxy.hold(matches, self._who)

    def at_boundary(self) -> bool:
        """Whether the job is held there."""
        if self.hold.event is None:
            return False
        self.held = True
        self.waiting = self.hold.waiting
        return True

    @property
    def alone(self) -> bool:
        """Whether what is under test has nothing else under way, on this connection or on another."""
        others = [each for each in self._proxy.in_flight(self._who) if each is not self._command]
        return not self.waiting and not others

    @property
    def _command(self) -> Event | None:
        event = self.hold.event
        return event if event is None or event.answers is None else event.answers

    @property
    def hold(self) -> Hold:
        """What holds the job."""
        assert self._hold is not None, "nothing is watched"
        return self._hold

    def release(self) -> None:
        """Let the job go on."""
        self.hold.release()

    def drop(self, how: How = "fin") -> None:
        """End the connection at the boundary."""
        self.fault = self.fault or f"connection ended by {how.upper()}"
        self.hold.drop(how, deliver=self.deliver)

    def __str__(self) -> str:
        event = self._hold.event if self._hold is not None else None
        where = boundary.label(event) if event is not None else "not reached"
        behind = "what waited behind it still reached Redis" if self.deliver else ""
        return "; ".join(filter(None, [f"boundary {self.number}: {where}", self.fault, behind]))


class Sweep:
    """The attempts of one test; `current` is what a failure's report shows."""

    def __init__(self, proxy: Proxy, who: str, only: int | None) -> None:
        self.current: Attempt | None = None
        self.only = only
        self._proxy = proxy
        self._who = who

    def attempts(self, requirement: str) -> Iterator[Attempt]:
        """One attempt after another, until one of them doesn't reach its boundary.

        Args:
            requirement: what a run without any boundary breaks.
        """
        number = self.only or 1
        while True:
            yield (attempt := self._attempt(number, deliver=False))
            if not attempt.held:
                break
            if attempt.waiting:
                yield self._attempt(number, deliver=True)
            if self.only:
                return
            number += 1
        if number == (self.only or 1):
            fail(requirement, expected=f"a job with a boundary {number}", got="none in its run")

    def _attempt(self, number: int, *, deliver: bool) -> Attempt:
        self.current = Attempt(self._proxy, self._who, number, deliver=deliver)
        return self.current
