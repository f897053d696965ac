"""Jobs that expire: what a server refuses by Redis's clock."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue.core.handlers import Handlers
from jobqueue.core.parallel import Parallel
from jobqueue.core.reconnect import Backoff
from jobqueue.core.serial import Serial
from jobqueue.core.steps import (
    Admit,
    Confirmed,
    Connect,
    Decide,
    Exchange,
    Handle,
    Jitter,
    Moment,
    Now,
    Outcomes,
    Pause,
    Send,
    TimedExchange,
)
from jobqueue.errors import ConnectionLost
from jobqueue.protocol import messages
from jobqueue.protocol.commands import ErrorReply
from jobqueue.protocol.keys import Keys
from jobqueue.protocol.messages import Answer, Dead, Run, Timed

from tests.conftest import DEADLINE_S, left, until
from tests.core.answering import DONE, TIME, answer_to, answers_of, at, job_of
from tests.server.test_server import job

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

NOPERM = ErrorReply("NOPERM", "NOPERM this user has no permissions to run the 'time' command")
LOADING = ErrorReply("LOADING", "LOADING Redis is loading the dataset in memory")
AT = at(100.0)


def has_expired(decided: Any) -> bool:
    """Whether it answers a job that the job has expired."""
    code = isinstance(decided, Answer) and json.loads(decided.result)["error"]["code"]
    return code == "expired"


@pytest.mark.parametrize(
    "written, read",
    [
        ("0", 0),
        ("-1", -1),
        ("1.5", 1.5),
        ("1e300", 1e300),
        ("9" * 400, int("9" * 400)),
        ("true", None),
        ("false", None),
        ("null", None),
        ('"1"', None),
        ("[1]", None),
        ('{"$numberLong": 1}', None),
    ],
)
def test_only_a_number_is_a_time(written: str, read: float | None) -> None:
    """server.expiry.value: anything else is ignored, as a member that nobody knows."""
    message = '{"method":"echo","channel":"c","id":"1","expires_at_ms":%s}' % written  # noqa: UP031 - of braces

    job = messages.decide(message.encode(), {"echo"})

    assert isinstance(job, Run)
    assert job.expires_at_ms == read


@pytest.mark.parametrize(
    "at_ms, now_ms, expired",
    [
        (50, 50, False),
        (50, 50.001, True),
        (-1, 0, True),
        (1e300, 1e15, False),
        (int("9" * 400), 1e15, False),
        (0, -math.inf, False),
    ],
)
def test_a_job_expires_after_its_time(at_ms: float, now_ms: float, *, expired: bool) -> None:
    """server.expiry.refuses, server.expiry.runs: not yet in its last moment."""
    job = job_of("1", at_ms)

    decided = Handlers(None, awaits=False).decide(Timed(job, now_ms))

    assert (decided == job) is not expired
    assert has_expired(decided) is expired


def test_one_time_refuses_many_and_starts_one() -> None:
    """server.expiry.refuses: after a handler has run, Redis is asked again before the next start."""
    unconfirmed: list[Any] = []
    late, later, soon, next_ = job_of("a", 1), job_of("b", 2), job_of("c", 60_000), job_of("d", 3)
    batch = [job.message for job in (late, later, soon, next_, soon)]

    steps = answers_of(unconfirmed).answer(batch, AT)
    assert next(steps) == Handle(late.message)
    assert steps.send((late, AT)) == TimedExchange([(b"TIME",)], 1)
    assert steps.send(([TIME], AT)) == Decide([later.message]), "by the same TIME"
    assert steps.send(([later], AT)) == Decide([soon.message])
    sent = steps.send(([soon], AT))
    assert isinstance(sent, Send), "no answer waits for a handler"
    assert [command[0] for command in sent.commands] == [b"MULTI", b"PUBLISH", b"LREM", b"EXEC"] * 2
    assert list(map(has_expired, unconfirmed)) == [True, True]
    assert steps.send(AT) == Handle(Timed(soon, 50_250))

    assert isinstance(steps.send((answer_to(soon), AT)), Send)
    assert steps.send(AT) == Handle(next_.message)
    assert isinstance(steps.send((next_, AT)), Send), "what has expired needs no new TIME"
    assert has_expired(unconfirmed[-1])

    assert steps.send(AT) == Handle(soon.message)
    asked = steps.send((soon, AT))
    assert asked == TimedExchange([(b"TIME",)], 17), "asked again, with what is unread"
    assert steps.send(([*DONE * 4, [b"59", b"0"]], AT)) == Handle(Timed(soon, 59_000))
    assert unconfirmed == []


def test_a_batch_that_has_expired_is_followed_by_one_with_its_time() -> None:
    """server.expiry.refuses: a queue of stale jobs takes a round trip for each batch, as one of other jobs does."""
    late, later, soon = job_of("a", 1), job_of("b", 2), job_of("c", 60_000)
    steps: Any = Serial(Keys.of("q", "p"), prefetch=2, block_seconds=2.0).session(Backoff())
    claims = [b"BLMOVE", b"LMOVE"]
    refusal = [b"MULTI", b"PUBLISH", b"LREM", b"EXEC"]

    def claiming(step: Any) -> list[bytes]:
        """The names of the commands of the write that claims."""
        while isinstance(step, Now):
            step = steps.send(AT)
        assert isinstance(step, TimedExchange)
        return [command[0] for command in step.commands]

    step = next(steps)
    while step != Exchange([(b"LRANGE", b"q:in-process:p", b"0", b"-1")], 1):
        step = steps.send(AT if step == Now() else [b"OK", []])
    assert claiming(steps.send([[]])) == claims
    assert steps.send(([late.message, None], AT)) == Handle(late.message)
    assert steps.send((late, AT)) == TimedExchange([(b"TIME",)], 1)

    refused = claiming(steps.send(([TIME], AT)))
    assert refused == [*refusal, *claims, b"TIME"]
    decide = steps.send(([*DONE, later.message, late.message, [b"51", b"0"]], AT))
    assert decide == Decide([later.message, late.message]), "one step for all"
    again = claiming(steps.send(([later, late], AT)))
    assert again == [*refusal * 2, *claims, b"TIME"], "by the TIME behind the claim"
    decide = steps.send(([*DONE * 2, soon.message, late.message, [b"52", b"0"]], AT))
    assert decide == Decide([soon.message, late.message])
    assert steps.send(([soon, late], AT)) == Handle(Timed(soon, 52_000))
    assert isinstance(steps.send((answer_to(soon), AT)), Send)
    assert claiming(steps.send(AT)) == [*refusal, *claims], "a handler has run"
    assert steps.send(([*DONE * 2, soon.message, None], AT)) == Handle(soon.message)
    assert steps.send((soon, AT)) == TimedExchange([(b"TIME",)], 1)
    assert steps.send(([[b"55", b"0"]], AT)) == Handle(Timed(soon, 55_000))
    claiming(steps.send((answer_to(soon), AT)))
    idle = claiming(steps.send(([*DONE, None, None], AT)))
    assert idle == claims, "nothing has expired"

    steps.send(([late.message, None], AT))
    steps.send((late, AT))
    claiming(steps.send(([TIME], AT)))
    with pytest.raises(ConnectionLost):
        steps.send(([*DONE, later.message, None, LOADING], AT))


def test_what_has_expired_is_decided_with_what_has_not() -> None:
    """server.run.goes-on: each of them is answered once, in its order, whatever it is."""
    unconfirmed: list[Any] = []
    answers = answers_of(unconfirmed)
    late, soon = job_of("a", 1), job_of("b")
    junk, rejected = Dead(b"junk", "junk"), answer_to(job_of("c"))
    first = answers.answer([late.message], AT)
    next(first)
    first.send((late, AT))
    with pytest.raises(StopIteration):
        first.send(([TIME], AT))
    clock: Any = answers.ask_ahead()
    next(clock)
    with pytest.raises(StopIteration):
        clock.send([TIME])

    steps = answers.answer([b"junk", b"c", soon.message, b"d"], AT)
    assert next(steps) == Decide([b"junk", b"c", soon.message, b"d"])
    assert isinstance(steps.send(([junk, rejected, soon, late], AT)), Send)
    assert steps.send(AT) == Handle(Timed(soon, 50_250))
    assert isinstance(steps.send((answer_to(soon), AT)), Send)
    with pytest.raises(StopIteration) as end:
        steps.send(AT)

    assert end.value.value == AT
    assert unconfirmed[1:4] == [junk, rejected, answer_to(soon)]
    assert has_expired(unconfirmed[4])
    assert not answers.one_write


def test_without_the_right_to_ask_jobs_run() -> None:
    """server.expiry.forbidden: an ACL that was made for an older server stops no job."""
    steps = answers_of([]).answer([b"1"], AT)
    next(steps)
    steps.send((job_of("1", 0), AT))

    assert steps.send(([NOPERM], AT)) == Handle(Timed(job_of("1", 0), -math.inf))


def test_a_redis_that_cannot_serve_tells_no_time() -> None:
    """server.connection.refused: the connection counts as lost."""
    steps = answers_of([]).answer([b"1"], AT)
    next(steps)
    steps.send((job_of("1", 0), AT))

    with pytest.raises(ConnectionLost):
        steps.send(([LOADING], AT))


def test_places_that_are_free_wait_for_one_time() -> None:
    """server.expiry.refuses: asked together with the answers, and again after a lost connection."""
    server = Parallel(Keys.of("q", "p"), concurrency=3, prefetch=1, block_seconds=2.0)
    late, soon = job_of("a", 1), job_of("b", 60_000)
    steps: Any = server.confirming()
    assert isinstance(next(steps), Outcomes)
    assert steps.send([late, answer_to(job_of("c")), soon]) == Connect()
    steps.send(None)

    ask = steps.send([b"OK", []])
    assert [command[0] for command in ask.commands][3:] == [b"EXEC", b"TIME"]
    assert steps.send([*DONE, LOADING]) == Confirmed([b"c"])
    assert steps.send(None) == Now()
    assert steps.send(Moment(0.0, stopping=False)) == Jitter()
    assert isinstance(steps.send(0.0), Pause)
    assert steps.send(None) == Connect()
    steps.send(None)

    assert steps.send([b"OK", []]) == Exchange([(b"TIME",)], 1)
    assert steps.send([TIME]) == Confirmed([])
    assert steps.send(None) == Admit([Timed(late, 50_250), Timed(soon, 50_250)])
    assert isinstance(steps.send(None), Outcomes)


def test_a_server_answers_what_has_expired(serve: Callable[..., Any], redis: Redis) -> None:
    """server.expiry.refuses, server.expiry.runs: of a hundred, those run that haven't expired."""
    channel = redis.pubsub()  # type: ignore[no-untyped-call]
    channel.subscribe("c")
    until(lambda: redis.pubsub_numsub("c") == [(b"c", 1)], "the subscription")
    channel.get_message(timeout=DEADLINE_S)
    ran: list[Any] = []
    for number in range(100):
        at_ms = 1 if number % 3 else 1e15
        redis.lpush("job-queue", job(str(number), "note", parameters=number, expires_at_ms=at_ms))

    serve({"note": ran.append}, prefetch=10)
    until(lambda: not left(redis), "no key to be left")

    results = [json.loads(channel.get_message(timeout=DEADLINE_S)["data"]) for _ in range(100)]
    codes = {int(each["id"]): each.get("error", {}).get("code") for each in results}
    assert codes == {number: "expired" if number % 3 else None for number in range(100)}
    assert sorted(ran) == list(range(0, 100, 3))
