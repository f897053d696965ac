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
        "jobqueue.calls.calls",
        (('_UNAVAILABLE = {"READONLY", ', "_UNAVAILABLE = {"),),
    ),
    Bug(
        "a client keeps a subscription that Redis has refused",
        "jobqueue.calls.calls",
        (
            (
                "request.pushed is None and self._state is State.SUBSCRIBING",
                "request.pushed and self._state is State.SUBSCRIBING",
            ),
        ),
    ),
    Bug(
        "a client pushes behind a SUBSCRIBE that isn't confirmed",
        "jobqueue.calls.calls",
        (
            (
                "while jobs.waiting and self._state is State.OPEN",
                "while jobs.waiting and self._state in {State.OPEN, State.SUBSCRIBING}",
            ),
        ),
    ),
    Bug(
        "a lost connection settles jobs that have a timeout",
        "jobqueue.calls.unsettled",
        (("if call.message is None and call.deadline is None:", "if call.message is None:"),),
    ),
    Bug(
        "a server never registers its list",
        "jobqueue.protocol.leases",
        (
            (
                '        (b"HSET", keys.processors, keys.in_process, b"0"),\n    ]\n    refusals',
                '        (b"EXISTS", keys.processors),\n    ]\n    refusals',
            ),
        ),
    ),
    Bug(
        "a lease is renewed only by its end",
        "jobqueue.core.lease",
        (("RENEWALS = 4", "RENEWALS = 1"),),
    ),
    Bug(
        "a server that was paused starts what it had claimed",
        "jobqueue.core.lease",
        (("        if not self.holds(generation, moment.seconds, reserve):", "        if False:"),),
    ),
    Bug(
        "a claim may last longer than the lease",
        "jobqueue.core.lease",
        (
            ("reserve=self._block_seconds)", "reserve=0.0)"),
            ("self.holds(generation, now, self._block_seconds)", "self.holds(generation, now)"),
        ),
    ),
    Bug(
        "a lapsed list is adopted from at first sight",
        "jobqueue.protocol.leases",
        (
            (
                "if v == 0 or math.abs(v) > now then",
                "if v == 0 then\n  v = now - tonumber(ARGV[2])\nend\nif math.abs(v) > now then",
            ),
        ),
    ),
    Bug(
        "a list is adopted from, whether or not it has a lease",
        "jobqueue.protocol.leases",
        (
            (" or redis.call('EXISTS', KEYS[3]) == 1 then", " then"),
            (
                "    if answer != -2:\n        return max(int(answer), 0) + 1 if answer >= 0 else None\n",
                "",
            ),
        ),
    ),
    Bug(
        "an adopter copies, and doesn't move",
        "jobqueue.protocol.leases",
        (
            (
                "redis.call('LMOVE', KEYS[5], KEYS[4], 'RIGHT', 'LEFT')",
                (
                    "redis.call('LRANGE', KEYS[5], '-1', '-1')[1] or false\n"
                    "if message then\n  redis.call('LPUSH', KEYS[4], message)\nend"
                ),
            ),
        ),
    ),
    Bug(
        "what is adopted goes back to the queue",
        "jobqueue.protocol.leases",
        (("keys.lease_of(key), keys.in_process, key]", "keys.lease_of(key), keys.queue, key]"),),
    ),
    Bug(
        "a list is never forgotten",
        "jobqueue.protocol.leases",
        (("elseif not message and now + v >= tonumber(ARGV[3]) then", "elseif false then"),),
    ),
)
