"""Which of the passages at the tap are boundaries of a job: the places where a fault can hit it.

Pure. A boundary is a command that carries the job's id and isn't forwarded yet, or a reply that carries it, or that
answers such a command, and isn't returned yet. Handshakes, PING, timers and empty claims are none: counted in
any other way, boundaries are neither stable nor finite. A transaction is one command, judged at its EXEC.
"""

from jobqueue_conformance.passage import Passage


def is_boundary(passage: Passage, job_id: bytes) -> bool:
    """Whether the job can be hit here."""
    if passage.queued:
        return False
    return passage.carries(job_id)


class Nth:
    """Matches the boundary with this number, counted from 1, of a job that passes from now on."""

    def __init__(self, number: int, *job_ids: str) -> None:
        self._ids = [job_id.encode() for job_id in job_ids]
        self.number = number
        self.seen = 0

    def __call__(self, passage: Passage) -> bool:
        if any(is_boundary(passage, job_id) for job_id in self._ids):
            self.seen += 1
            return self.seen == self.number
        return False
