"""Bugs of those who look after the lists of others."""

from __future__ import annotations

from simulation.bugs.bug import Bug

BUGS = (
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
        "a server claims before it adopts the rest of what is due",
        "jobqueue.core.takeover",
        (("return bool(self._due) or now >= self._next_scan", "return now >= self._next_scan"),),
    ),
    Bug(
        "an adopter whose lease has ended adopts",
        "jobqueue.protocol.leases",
        (("redis.call('GET', KEYS[2]) ~= ARGV[1] or ", ""),),
    ),
    Bug(
        "a list is forgotten as soon as it is empty, while a claim may be late",
        "jobqueue.core.takeover",
        (("self._grace_ms = int(grace_seconds * 1000)", "self._grace_ms = 0"),),
    ),
)
