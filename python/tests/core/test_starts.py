"""Starts of handlers: by which time a server that has a lease allows each."""

from __future__ import annotations

from typing import Any

import pytest
from jobqueue.core.reconnect import Backoff
from jobqueue.core.serial import Serial
from jobqueue.core.steps import Decide, Exchange, Handle, Moment, Now, Send, TimedExchange
from jobqueue.core.takeover import Takeover
from jobqueue.protocol.commands import ErrorReply
from jobqueue.protocol.keys import Keys
from jobqueue.protocol.messages import Timed

from tests.core.answering import DONE, TIME, answer_to, answers_of, at, job_of

OOM = ErrorReply("OOM", "OOM command not allowed when used memory > 'maxmemory'")


class Checking(Takeover):
    """A takeover that notes by which times starts are allowed."""

    def __init__(self) -> None:
        super().__init__(Keys.of("q", "p"))
        self.times: list[float] = []

    def check(self, generation: int, moment: Moment) -> None:
        """Note it."""
        super().check(generation, moment)
        self.times.append(moment.seconds)


def test_each_start_is_allowed_by_the_time_after_the_last_wait() -> None:
    """server.takeover.lapse: that of the claim's reply, of the end of a write, or of TIME's reply."""
    takeover, job, soon = Checking(), job_of("a"), job_of("b", 60_000)
    steps = answers_of([], takeover).answer([b"a", b"b", b"a"], at(1.0))
    assert next(steps) == Handle(b"a")
    assert takeover.times == [1.0]

    assert isinstance(steps.send((answer_to(job), at(2.0))), Send)
    assert steps.send(at(3.0)) == Handle(b"b")
    assert takeover.times == [1.0, 3.0], "Redis may have let the answer wait"
    assert isinstance(steps.send((soon, at(4.0))), TimedExchange)
    assert steps.send(([*DONE, TIME], at(5.0))) == Handle(Timed(soon, 50_250))
    assert takeover.times == [1.0, 3.0, 5.0]

    assert isinstance(steps.send((answer_to(soon), at(6.0))), Send)
    assert steps.send(at(7.0)) == Handle(b"a")
    assert takeover.times == [1.0, 3.0, 5.0, 7.0]
    with pytest.raises(StopIteration) as end:
        steps.send((answer_to(job), at(8.0)))
    assert end.value.value == at(8.0), "by which the server decides on its next claim"


def test_a_start_behind_refusals_is_allowed_by_the_time_after_their_write() -> None:
    """server.takeover.lapse: Redis may have let the refusals wait."""
    takeover, late, soon = Checking(), job_of("a", 1), job_of("b", 60_000)
    steps = answers_of([], takeover).answer([late.message, soon.message], at(1.0))
    assert next(steps) == Handle(late.message)
    steps.send((late, at(2.0)))
    assert steps.send(([TIME], at(3.0))) == Decide([soon.message])
    assert isinstance(steps.send(([soon], at(4.0))), Send)
    assert steps.send(at(5.0)) == Handle(Timed(soon, 50_250))
    assert takeover.times[-1] == 5.0


def test_what_is_claimed_is_allowed_by_the_time_of_the_reply() -> None:
    """server.takeover.lapse: a server that wakes up with the reply to a claim in its hands starts nothing."""
    takeover = Checking()
    steps: Any = Serial(
        Keys.of("q", "p"), prefetch=1, block_seconds=2.0, takeover=takeover
    ).session(Backoff())
    step = next(steps)
    while not isinstance(step, TimedExchange):
        look = isinstance(step, Exchange) and step.commands[0][0] == b"LRANGE"
        step = steps.send(at(1.0) if step == Now() else [[]] if look else [b"OK", []])

    assert steps.send(([b"a"], at(3.0))) == Handle(b"a")
    assert takeover.times[-1] == 3.0

    assert isinstance(steps.send((answer_to(job_of("a")), at(4.0))), TimedExchange)
    refused = [b"OK", OOM, b"QUEUED", ErrorReply("EXECABORT", "EXECABORT Transaction discarded")]
    publish: Any = steps.send(([*refused, b"b"], at(5.0)))
    remove: Any = steps.send([1])
    assert [step.commands[0][0] for step in (publish, remove)] == [b"PUBLISH", b"LREM"]
    assert steps.send([1]) == Now(), "Redis may have let it wait for each"
    assert steps.send(at(20.0)) == Handle(b"b")
    assert takeover.times[-1] == 20.0
