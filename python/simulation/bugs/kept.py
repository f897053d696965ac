"""Bugs of kept results: how servers store them, and how clients find them."""

from __future__ import annotations

from simulation.bugs.bug import Bug

BUGS = (
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
)
