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
        "an adopter takes a job off a list by one command, and puts it on its own by another",
        "jobqueue.protocol.leases",
        (
            (
                "redis.call('LMOVE', KEYS[5], KEYS[4], 'RIGHT', 'LEFT')",
                (
                    "redis.call('LRANGE', KEYS[5], '-1', '-1')[1] or false\n"
                    "if message then\n  redis.call('LREM', KEYS[5], '-1', message)\n"
                    "  redis.call('LPUSH', KEYS[4], message)\nend"
                ),
            ),
        ),
    ),
    Bug(
        "a server looks at its list twice on a connection, and never again",
        "jobqueue.core.recovery",
        (
            (
                "self._next = now + self._look_seconds\n",
                'self._next = self._lost_until if self._lost_until and now < self._lost_until else float("inf")\n',
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
        "a list that was found empty isn't looked at any more",
        "jobqueue.protocol.leases",
        (
            ("        late = answer > 0 or -v > now\n", "        late = False\n"),
            (
                "        return 0 if late else grace_ms - (now + v)",
                "        return 0 if late else None",
            ),
        ),
    ),
    Bug(
        "a job is given up one start too late",
        "jobqueue.core.attempts",
        (("        if count <= self._limit:", "        if count <= self._limit + 1:"),),
    ),
    Bug(
        "a job is given up one start too early",
        "jobqueue.core.attempts",
        (("        if count <= self._limit:", "        if count < self._limit:"),),
    ),
    Bug(
        "an adopted job isn't counted",
        "jobqueue.core.attempts",
        (
            (
                "        self._unstarted[message] += 1\n        return Suspect(message)",
                "        return message",
            ),
        ),
    ),
    Bug(
        "what every look finds is counted",
        "jobqueue.core.attempts",
        (("if (adopted or not self._looked) and self._limit:", "if self._limit:"),),
    ),
    Bug(
        "an expired job starts",
        "jobqueue.protocol.messages",
        (("now_ms > job.expires_at_ms", "False"),),
    ),
    Bug(
        "a server claims before it adopts the rest of what is due",
        "jobqueue.core.takeover",
        (("return bool(self._due) or now >= self._next_scan", "return now >= self._next_scan"),),
    ),
    Bug(
        "a later run's result replaces the one that is stored",
        "jobqueue.protocol.commands",
        (('answer.result, b"NX", b"PX", ', 'answer.result, b"PX", '),),
    ),
    Bug(
        "a result is kept for ever",
        "jobqueue.protocol.commands",
        (('b"NX", b"PX", b"%d" % keep_ms)', 'b"NX")'),),
    ),
    Bug(
        "a result is stored under the digest of its own bytes",
        "jobqueue.protocol.commands",
        (("names.digest(outcome.message)", "names.digest(answer.result)"),),
    ),
    Bug(
        "a result is stored after it is published",
        "jobqueue.protocol.commands",
        (
            ('(b"MULTI",), *store, publish', '(b"MULTI",), publish'),
            (
                "                return _removed(removed)\n            if removed == 1:",
                (
                    "                if store:\n                    yield store\n"
                    "                return _removed(removed)\n            if removed == 1:"
                ),
            ),
        ),
    ),
    Bug(
        "a client looks before it holds the reply to its SUBSCRIBE",
        "jobqueue.calls.calls",
        (
            (
                "self._channel), Request(now))",
                "self._channel), Request(now))\n        self._jobs.resubscribed()",
            ),
            (
                "if own.busy and self._state is State.OPEN:",
                "if own.busy and self._links.last >= 0:",
            ),
            ('"subscribed", now)\n            self._jobs.resubscribed()', '"subscribed", now)'),
        ),
    ),
    Bug(
        "a client looks after its first loss alone",
        "jobqueue.calls.unsettled",
        (
            (
                "call.keep.channel is None:\n                self.own.look(job_id)",
                (
                    "not (call.keep.channel or call.keep.ready):\n"
                    "                call.keep.ready = True\n                self.own.look(job_id)"
                ),
            ),
        ),
    ),
    Bug(
        "who collects looks, and then subscribes",
        "jobqueue.calls.kept",
        (
            (
                "        if channel in self._confirmed:\n            keep.ready = True\n",
                "        if channel in self._confirmed or keep.collects:\n            keep.ready = True\n",
            ),
            ("return list(jobs)", "return [each for each in jobs if not jobs[each].collects]"),
        ),
    ),
    Bug(
        "a look whose reply is lost is the last one",
        "jobqueue.calls.kept",
        (
            (
                "        self._looking = False\n\n    def look(",
                "\n    def look(",
            ),
        ),
    ),
    Bug(
        "channels of single jobs aren't subscribed to again",
        "jobqueue.calls.kept",
        (("        self._new = dict.fromkeys(self._jobs)\n", ""),),
    ),
    Bug(
        "a kept job counts as lost when its connection is",
        "jobqueue.calls.unsettled",
        (("if keep is None or not keep.pushed:", "if True:"),),
    ),
    Bug(
        "an expired job is dropped silently",
        "jobqueue.protocol.commands",
        (
            (
                "    store = _storing(keys, outcome, keep_ms) if keep_ms else []\n",
                (
                    "    if b'\"expired\"' in getattr(outcome, 'result', b''):\n"
                    "        (removed,) = yield [_removal(keys, outcome)]\n"
                    "        return _removed(removed)\n"
                    "    store = _storing(keys, outcome, keep_ms) if keep_ms else []\n"
                ),
            ),
        ),
    ),
    Bug(
        "a job may have expired when it was claimed, and not when it starts",
        "jobqueue.core.answers",
        (
            (
                "        if not self._idle:\n            # server.expiry.refuses",
                "        if self._now_ms == -math.inf:\n            # server.expiry.refuses",
            ),
        ),
    ),
    Bug(
        "a job expires by a TIME that was asked for while its hand was busy",
        "jobqueue.core.parallel",
        (
            (
                "yield Admit([Timed(job, now_ms) for job in expiring])",
                (
                    'yield Admit([Timed(job, getattr(self, "_asked_ms", now_ms)) for job in expiring])\n'
                    "                self._asked_ms = now_ms"
                ),
            ),
        ),
    ),
    Bug(
        "a server decides by its own clock what has expired",
        "jobqueue.core.answers",
        (
            (
                "self._now_ms = yield from proceed(clock, left)",
                (
                    "yield from proceed(clock, left)\n"
                    "            self._now_ms = 1_700_000_000_000 + 1_000 * moment.seconds"
                ),
            ),
        ),
    ),
    Bug(
        "a server refuses what expires in the next second",
        "jobqueue.protocol.messages",
        (("now_ms > job.expires_at_ms", "now_ms > job.expires_at_ms - 1_000"),),
    ),
    Bug(
        "a client computes by its own clock when a job expires",
        "jobqueue.calls.clock",
        (
            (
                "        self._redis_ms = seconds * 1_000 + microseconds / 1_000\n",
                "        self._redis_ms = 1_700_000_000_000 + asked_at * 1_000\n",
            ),
        ),
    ),
)
