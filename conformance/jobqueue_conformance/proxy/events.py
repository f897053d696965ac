"""One frame that passes the proxy, on its way to Redis or back, or what else happened at that time.

Pure data. A reply knows the command that it answers, and an EXEC the commands that were queued for it.
"""

from dataclasses import dataclass
from functools import cached_property

from jobqueue_conformance.proxy import resp

COMMAND, REPLY, MESSAGE = "command", "reply", "message"
OPENED, CLOSED, CUT = "opened", "closed", "cut"
STDIN, STDOUT = "stdin", "stdout"  # a line that a driver was given, or wrote
ASKED, HEARD = "asked", "heard"  # what the kit itself sent to Redis, or received as a message
KIT = "kit"


@dataclass
class Event:
    """One frame; for what isn't a frame, what there is to say about it.

    `fate` is empty where the event simply passed, and else says what the kit did to it.
    """

    at_s: float
    who: str
    connection: int
    kind: str
    frame: bytes
    answers: "Event | None" = None
    transaction: tuple["Event", ...] = ()
    queued: bool = False
    fate: str = ""

    @cached_property
    def arguments(self) -> tuple[bytes, ...]:
        """The arguments of the command, or of the one that this reply answers, its name first."""
        if self.answers is not None:
            return self.answers.arguments
        return resp.arguments(self.frame) if self.kind == COMMAND else ()

    def carries(self, text: str | bytes) -> bool:
        """Whether the text stands in the frame, or in a command that it answers or executes."""
        wanted = text.encode() if isinstance(text, str) else text
        return (
            wanted in self.frame
            or (self.answers is not None and self.answers.carries(wanted))
            or any(command.carries(wanted) for command in self.transaction)
        )
