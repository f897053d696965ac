"""Bugs of a server's own lease and registration."""

from __future__ import annotations

from simulation.bugs.bug import Bug

# Takes the lease, and leaves out the last command, which registers the list.
_UNREGISTERED = """\
def {}:
    write = next(commands)
    replies = yield {}
    try:
        commands.send({})
    except StopIteration as over:
        return over.value


class Lapsed(ConnectionLost):"""

BUGS = (
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
        "a lease is taken, whoever has it",
        "jobqueue.core.lease",
        (
            (
                "            self._refuse(found)\n",
                (
                    "            self._former = found.holder\n            yield from self._inherit(found.holder)\n"
                    "            continue\n"
                ),
            ),
        ),
    ),
    Bug(
        "a server looks at its list before it has the lease",
        "jobqueue.core.serial",
        (
            (
                "            if not (yield from takeover.begin(generation)):",
                (
                    "            yield from exchange(commands.look(self._keys))\n"
                    "            if not (yield from takeover.begin(generation)):"
                ),
            ),
        ),
    ),
    Bug(
        "a list is registered after the first claim",
        "jobqueue.core.lease",
        (
            (
                "            leases.acquire(self._keys, self.token, self.milliseconds)\n",
                "            _silent(leases.acquire(self._keys, self.token, self.milliseconds))\n",
            ),
            (
                "class Lapsed(ConnectionLost):",
                _UNREGISTERED.format("_silent(commands)", "write[:-1]", "[*replies, 0]"),
            ),
            (
                "                yield from self._renew(backoff.generation)\n",
                (
                    "                yield from self._renew(backoff.generation)\n"
                    "                yield from exchange(leases.register(self._keys))\n"
                ),
            ),
        ),
    ),
    Bug(
        "a list is registered at the start alone",
        "jobqueue.core.lease",
        (
            (
                "            leases.acquire(self._keys, self.token, self.milliseconds)\n",
                "            _once(leases.acquire(self._keys, self.token, self.milliseconds), first)\n",
            ),
            (
                "class Lapsed(ConnectionLost):",
                _UNREGISTERED.format(
                    "_once(commands, first)",
                    "write if first else write[:-1]",
                    "replies if first else [*replies, 0]",
                ),
            ),
        ),
    ),
    Bug(
        "a lease is given up while handlers run",
        "jobqueue.core.parallel",
        (
            (
                "                yield Room(1)\n                yield from takeover.end(looks)\n",
                "                yield from takeover.end(looks)\n                yield Room(1)\n",
            ),
        ),
    ),
    Bug(
        "a renewal counts from its reply",
        "jobqueue.core.lease",
        (
            (
                "        self._renewal = (generation, moment.seconds)\n\n    def _inherit",
                (
                    "        moment = yield Now()\n"
                    "        self._renewal = (generation, moment.seconds)\n\n    def _inherit"
                ),
            ),
        ),
    ),
    Bug(
        "a list that is leased again stays marked as lapsed",
        "jobqueue.protocol.leases",
        (
            (
                '        (b"HSET", keys.processors, keys.in_process, b"0"),\n    ]\n    refusals',
                (
                    """        (b"EVAL", b"return redis.call('HGET', KEYS[1], KEYS[2]) and 0 "\n"""
                    """         b"or redis.call('HSET', KEYS[1], KEYS[2], 0)", b"2", keys.processors,\n"""
                    "         keys.in_process),\n    ]\n    refusals"
                ),
            ),
        ),
    ),
    Bug(
        "a lease is never given up",
        "jobqueue.protocol.leases",
        (
            (
                "yield [*forget, _script(RELEASE, [keys.lease], token)]",
                'yield forget or [(b"EXISTS", keys.lease)]',
            ),
        ),
    ),
    Bug(
        "a release deletes the lease, whoever has it",
        "jobqueue.protocol.leases",
        (
            (
                "if redis.call('GET', KEYS[1]) == ARGV[1] then\n  return redis.call('DEL', KEYS[1])",
                "if redis.call('EXISTS', KEYS[1]) == 1 then\n  return redis.call('DEL', KEYS[1])",
            ),
        ),
    ),
    Bug(
        "a lost connection doesn't end the others, so that renewals go on at the old primary",
        "jobqueue.core.lease",
        (("        if self.generation == generation:\n", "        if False:\n"),),
    ),
    Bug(
        "a server removes its registration whenever its list is empty at a stop",
        "jobqueue.core.lease",
        (("bool(self._created) and all_answered", "True"),),
    ),
    Bug(
        "a server removes its registration although an earlier life has made it",
        "jobqueue.core.lease",
        (("bool(self._created) and all_answered", "all_answered"),),
    ),
    Bug(
        "a server removes its registration although a claim was never answered",
        "jobqueue.core.lease",
        (("bool(self._created) and all_answered", "bool(self._created)"),),
    ),
    Bug(
        "a registration is removed, whoever has the lease by then",
        "jobqueue.protocol.leases",
        (
            (
                "if redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('LLEN', KEYS[3]) == 0 then",
                "if redis.call('LLEN', KEYS[3]) == 0 then",
            ),
        ),
    ),
)
