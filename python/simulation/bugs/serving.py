"""Bugs of servers with and without takeover: stops, looks, refusals."""

from __future__ import annotations

from simulation.bugs.bug import Bug

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
                "may_claim = not moment.stopping and not looks.due",
                "may_claim = not looks.due",
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
)
