"""Bugs of jobs that expire."""

from __future__ import annotations

from simulation.bugs.bug import Bug

BUGS = (
    Bug(
        "an expired job starts",
        "jobqueue.protocol.messages",
        (("now_ms > job.expires_at_ms", "False"),),
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
