"""Which of the events at the proxy are boundaries of a job: the places where a fault can hit it.

Pure. A boundary is a command that carries the job's id and isn't forwarded yet, or a reply that carries it, or that
answers such a command, and isn't returned yet. Handshakes, PING, timers and empty claims are not boundaries: counted in
any other way, boundaries are neither stable nor finite. A transaction is one command, judged at its EXEC.
"""

from jobqueue_conformance.proxy.events import COMMAND, MESSAGE, Event


def is_boundary(event: Event, job_id: bytes) -> bool:
    """Whether the job can be hit here."""
    if event.queued:
        return False
    return event.carries(job_id)


class Nth:
    """Matches the boundary with this number, counted from 1, of the jobs that pass from now on; 0 matches each."""

    def __init__(self, number: int, *job_ids: str) -> None:
        self._ids = [job_id.encode() for job_id in job_ids]
        self._number = number
        self.seen = 0

    def __call__(self, event: Event) -> bool:
        """Count the event where it is a boundary."""
        if any(is_boundary(event, job_id) for job_id in self._ids):
            self.seen += 1
            return self._number in {0, self.seen}
        return False


class NthOfHandshake:
    """Matches the event with this number on connections that are made from now on and haven't named the queue."""

    def __init__(self, number: int, queue: str, after_connection: int) -> None:
        self._number = number
        self._queue = queue.encode()
        self._after = after_connection
        self._named: set[int] = set()
        self._seen = 0

    def __call__(self, event: Event) -> bool:
        """Count the event where it belongs to a handshake."""
        if event.connection <= self._after or event.connection in self._named:
            return False
        if event.carries(self._queue):
            self._named.add(event.connection)
            return False
        self._seen += 1
        return self._seen == self._number


def label(event: Event) -> str:
    """Describes a boundary for a reader."""
    name = event.arguments[0].decode(errors="replace") if event.arguments else "message"
    inner = [each.arguments[0].decode(errors="replace") for each in _transaction(event)]
    what = f"{name} of {', '.join(inner)}" if inner else name
    if event.kind == COMMAND:
        return f"the command {what} has arrived and isn't forwarded"
    if event.kind == MESSAGE:
        return "a message has arrived and isn't returned"
    return f"the reply to {what} has arrived and isn't returned"


def _transaction(event: Event) -> tuple[Event, ...]:
    return (event.answers or event).transaction
