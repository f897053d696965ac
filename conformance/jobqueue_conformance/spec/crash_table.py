"""What a crash leaves behind, in the words of the spec's crash table, and what has to follow.

Pure: what Redis holds in, the table's row out.
"""

from dataclasses import dataclass
from typing import Any

from jobqueue_conformance.spec import data


@dataclass(frozen=True)
class Held:
    """How many copies of a message are in each place, and how many results were published for it."""

    queue: int
    in_process: int
    dead: int
    published: int

    @property
    def places(self) -> list[str]:
        """In the crash table's words."""
        found = {"queue": self.queue, "in-process": self.in_process, "dead": self.dead}
        return sorted(place for place, copies in found.items() if copies)

    @property
    def lost(self) -> bool:
        """Whether it is nowhere, and was never answered."""
        return not self.places and not self.published


def crash_row(held: Held, initial: int, *, dead: bool, dead_list: bool) -> dict[str, Any] | None:
    """The row for what a crash left behind; None where the table has none, so that it must not happen.

    Args:
        held: what Redis holds of a message.
        initial: how many copies of it there were in the beginning.
        dead: it is one that no server can answer.
        dead_list: the server keeps such messages.
    """
    message = "dead" if dead else "job"
    published, places = min(held.published, 1), held.places
    if dead and not dead_list and not places:
        places = ["dead"]
    returned = held.queue and (held.in_process or published)
    if returned and held.queue + held.in_process <= initial:
        # A server may also recover by returning what it finds to the queue, one by one.
        places = ["in-process"]
    for row in data.crash_table():
        same = sorted(row["state"]) == places and row["message"] == message
        if same and row["published"] == published:
            return row
    return None
