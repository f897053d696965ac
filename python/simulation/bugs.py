"""Bugs that this or another library once had, or that the checked model of takeover has, as data.

Each is planted in the real core: pieces of one module's source are replaced.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

CORE = Path(__file__).parents[1]


class Bug(NamedTuple):
    """A bug: pieces of a module, and what stands there instead."""

    name: str
    module: str
    pieces: tuple[tuple[str, str], ...]

    @property
    def path(self) -> Path:
        """The module's file."""
        return CORE / f"{self.module.replace('.', '/')}.py"

    def source(self) -> str:
        """The module's source with the bug.

        Raises:
            ValueError: A piece isn't there, or is there more than once.
        """
        source = self.path.read_text("utf-8")
        for right, wrong in self.pieces:
            if source.count(right) != 1:
                raise ValueError(f"{self.module} has {source.count(right)} pieces {right!r}")
            source = source.replace(right, wrong)
        return source


BUGS = (
    Bug(
        "a server that Redis refuses never obeys a stop",
        "jobqueue.core.reconnect",
        (
            (
                "return moment.stopping and moment.seconds - self._failing_since >= LAST_SECONDS",
                "return False",
            ),
        ),
    ),
    Bug(
        "a server ends when it is refused at a reconnect",
        "jobqueue.core.reconnect",
        (("(isinstance(error, Refused) or not persist)", "True"),),
    ),
    Bug(
        "a result that is sent during a stop claims the next job",
        "jobqueue.core.serial",
        (
            (
                "may_claim = not moment.stopping and not self._looks.due",
                "may_claim = not self._looks.due",
            ),
        ),
    ),
    Bug(
        "T in whole seconds, so that half a second becomes for ever",
        "jobqueue.protocol.commands",
        (('b"%.3f" % max(block, 0.001)', 'b"%d" % block'),),
    ),
    Bug(
        "a look starts what is running",
        "jobqueue.core.recovery",
        (
            (
                "        if left[entry]:\n            left[entry] -= 1",
                "        if left[entry] < 0:\n            left[entry] -= 1",
            ),
        ),
    ),
    Bug(
        "a stop doesn't wait for handlers",
        "jobqueue.core.parallel",
        (("                yield Room(1)\n", ""),),
    ),
    Bug(
        "a forbidden command sends every job to the dead list",
        "jobqueue.protocol.commands",
        (
            (
                "return _forbidden(reply) and bool(_ABOUT_A_CHANNEL.search(reply.text))",
                "return _forbidden(reply)",
            ),
        ),
    ),
    Bug(
        "a client stays with a replica that refuses every push",
        "jobqueue.core.calls",
        (('_UNAVAILABLE = {"READONLY", ', "_UNAVAILABLE = {"),),
    ),
    Bug(
        "a client keeps a subscription that Redis has refused",
        "jobqueue.core.calls",
        (
            (
                "request.pushed is None and self._state is State.SUBSCRIBING",
                "request.pushed and self._state is State.SUBSCRIBING",
            ),
        ),
    ),
    Bug(
        "a client pushes behind a SUBSCRIBE that isn't confirmed",
        "jobqueue.core.calls",
        (
            (
                "while self._state is State.OPEN and self._jobs.waits",
                "while self._state in {State.OPEN, State.SUBSCRIBING} and self._jobs.waits",
            ),
        ),
    ),
    Bug(
        "a lost connection settles jobs that have a timeout",
        "jobqueue.core.unsettled",
        (("if call.message is None and call.deadline is None:", "if call.message is None:"),),
    ),
)
