"""Which of the passages at the tap are boundaries of a job: the places where a fault can hit it.

Pure. A boundary is a command that carries the job's id and isn't forwarded yet, or a reply that carries it, or that
answers such a command, and isn't returned yet. Handshakes, PING, timers and empty claims are none: counted in
any other way, boundaries are neither stable nor finite. A transaction is one command, judged at its EXEC.
"""

from jobqueue_conformance.passage import COMMAND, MESSAGE, Passage


def is_boundary(passage: Passage, job_id: bytes) -> bool:
    """Whether the job can be hit here."""
    if passage.queued:
        return False
    return passage.carries(job_id)


class Nth:
    """Matches the boundary with this number, counted from 1, of the jobs that pass from now on; 0 matches each."""

    def __init__(self, number: int, *job_ids: str) -> None:
        self._ids = [job_id.encode() for job_id in job_ids]
        self._number = number
        self.seen = 0

    def __call__(self, passage: Passage) -> bool:
        """Count the passage where it is a boundary."""
        if any(is_boundary(passage, job_id) for job_id in self._ids):
            self.seen += 1
            return self._number in {0, self.seen}
        return False


class NthOfHandshake:
    """Matches the passage with this number on connections that are made from now on and haven't named the queue."""

    def __init__(self, number: int, queue: str, after_connection: int) -> None:
        self._number = number
        self._queue = queue.encode()
        self._after = after_connection
        self._named: set[int] = set()
        self._seen = 0

    def __call__(self, passage: Passage) -> bool:
        """Count the passage where it belongs to a handshake."""
        if passage.connection <= self._after or passage.connection in self._named:
            return False
        if passage.carries(self._queue):
            self._named.add(passage.connection)
            return False
        self._seen += 1
        return self._seen == self._number


def label(passage: Passage) -> str:
    """Where a boundary lies, for a reader."""
    name = passage.arguments[0].decode(errors="replace") if passage.arguments else "message"
    inner = [each.arguments[0].decode(errors="replace") for each in _transaction(passage)]
    what = f"{name} of {', '.join(inner)}" if inner else name
    if passage.kind == COMMAND:
        return f"the command {what} has arrived and isn't forwarded"
    if passage.kind == MESSAGE:
        return "a message has arrived and isn't returned"
    return f"the reply to {what} has arrived and isn't returned"


def _transaction(passage: Passage) -> tuple[Passage, ...]:
    return (passage.answers or passage).transaction
