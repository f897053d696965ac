"""Jobs that expire: what a server refuses by Redis's clock, and when a client asks for that."""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue import aio
from jobqueue.calls import clock
from jobqueue.calls.calls import Calls, State
from jobqueue.calls.times import expiry_of
from jobqueue.calls.unsettled import Submission
from jobqueue.core.answers import Answers
from jobqueue.core.handlers import Handlers
from jobqueue.core.keeping import Keeping
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
from jobqueue.core.takeover import Takeover
from jobqueue.errors import ConnectionLost, NotQueued
from jobqueue.protocol import messages
from jobqueue.protocol.commands import ErrorReply
from jobqueue.protocol.keys import Keys
from jobqueue.protocol.messages import Answer, Dead, Run, Timed

from tests.conftest import DEADLINE_S, left, until
from tests.server.test_server import job

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue import Client
    from redis import Redis

TIME = [b"50", b"250000"]  # 50,250 ms
NOPERM = ErrorReply("NOPERM", "NOPERM this user has no permissions to run the 'time' command")
LOADING = ErrorReply("LOADING", "LOADING Redis is loading the dataset in memory")
OOM = ErrorReply("OOM", "OOM command not allowed when used memory > 'maxmemory'")
AT = Moment(100.0, stopping=False)
DONE = [b"OK", b"QUEUED", b"QUEUED", [1, 1]]
SUBSCRIBED = [b"subscribe", b"channel", 1]


def job_of(job_id: str, expires_at_ms: float | None = None) -> Run:
    """A job of which the message is the id."""
    return Run(job_id.encode(), b"c", job_id, "echo", None, expires_at_ms)


def answer_to(job: Run) -> Answer:
    """An outcome."""
    return Answer(job.message, b"c", job.id, b"result of " + job.message)


def code_of(answer: Any) -> Any:
    """The error that an answer publishes."""
    return json.loads(answer.result)["error"]["code"]


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
    assert not expired or code_of(decided) == "expired"


def answers_of(unconfirmed: list[Any], takeover: Takeover | None = None) -> Answers:
    """The answers of a server, without a lease unless another takeover is given."""
    keys = Keys.of("q", "p")
    takeover = takeover or Takeover(keys)
    return Answers(keys, unconfirmed, Backoff(), takeover, Keeping(), transactions=True)


class Checking(Takeover):
    """A takeover that notes by which times starts are allowed."""

    def __init__(self) -> None:
        super().__init__(Keys.of("q", "p"))
        self.times: list[float] = []

    def check(self, generation: int, moment: Moment) -> None:
        """Note it."""
        super().check(generation, moment)
        self.times.append(moment.seconds)


def at(seconds: float) -> Moment:
    """A time at which no stop is requested."""
    return Moment(seconds, stopping=False)


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
    assert [code_of(each) for each in unconfirmed] == ["expired"] * 2
    assert steps.send(AT) == Handle(Timed(soon, 50_250))

    assert isinstance(steps.send((answer_to(soon), AT)), Send)
    assert steps.send(AT) == Handle(next_.message)
    assert isinstance(steps.send((next_, AT)), Send), "what has expired needs no new TIME"
    assert code_of(unconfirmed[-1]) == "expired"

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
    assert code_of(unconfirmed[4]) == "expired"
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


def test_a_client_for_asyncio_says_when_jobs_expire(redis_url: str, redis: Redis) -> None:
    """client.expiry.clock: each job, or else the client, and the times are Redis's."""

    async def push() -> None:
        async with aio.Client(redis_url, expires="timeout") as client:
            await client.run("echo", 1, timeout=60)
            await client.run("echo", 2)
            await client.run("echo", 3, expires=5)
            await client.run_many([("echo", 4)], timeout=1, expires=math.inf)

    asyncio.run(push())
    seconds = redis.time()[0]
    jobs = [json.loads(each) for each in redis.lrange("job-queue", 0, -1)][::-1]

    assert ["expires_at_ms" in job for job in jobs] == [True, False, True, False]
    assert [round(jobs[n]["expires_at_ms"] / 1000 - seconds) for n in (0, 2)] == pytest.approx(
        [60, 5], abs=DEADLINE_S
    )


@pytest.mark.parametrize("expires", [-1, math.nan, "never"])
def test_what_is_no_expiry_is_refused(connect: Callable[..., Client], expires: Any) -> None:
    """A mistake of the caller: nothing is submitted."""
    with pytest.raises(ValueError, match="expires must be"):
        connect(expires=expires)
    with pytest.raises(ValueError, match="expires must be"):
        connect().run("echo", expires=expires)


def test_a_default_is_for_those_that_say_nothing() -> None:
    """Seconds, or those of the timeout, or none."""
    assert expiry_of(None, None, 5, 100) is None
    assert expiry_of(None, "timeout", 5, 100) == 105
    assert expiry_of(None, "timeout", None, 100) is None
    assert expiry_of(7, "timeout", 5, 100) == 107
    assert expiry_of("timeout", 7, 5, 100) == 105
    assert expiry_of(None, 7, 5, 100) == 107


def submit(session: Calls[str], job: str, expires_at: float | None) -> None:
    """Submit a job."""
    session.submit([Submission(job, job, b'{"id":"%b"}' % job.encode(), expires_at)], None)


def opened(session: Calls[str], now: float, links: int = 2) -> None:
    """Connect and subscribe."""
    session.attempt(now)
    session.connected(links, now)
    session.take_controls(now)
    session.received(links - 1, [SUBSCRIBED], now)


@pytest.mark.parametrize("links", [1, 2])
def test_the_clock_is_asked_at_most_a_minute_before(links: int) -> None:
    """client.expiry.clock: of Redis, on the way to the push, and again on a new connection."""
    session: Calls[str] = Calls(b"q", b"channel")
    opened(session, 10, links)
    submit(session, "1", None)
    submit(session, "2", 15)
    submit(session, "3", 16.5)
    assert session.take_push(10) == (b"LPUSH", b"q", b'{"id":"1"}')
    assert session.take_push(11) == (b"TIME",)
    assert session.take_push(11) is None, "what comes behind it keeps its place"
    session.received(0, [1, TIME], 12)

    assert session.take_push(12) == (b"LPUSH", b"q", b'{"id":"2","expires_at_ms":54250}')
    assert session.take_push(71) == (b"LPUSH", b"q", b'{"id":"3","expires_at_ms":55750}')
    submit(session, "4", 80)
    assert session.take_push(11 + clock.GOOD_SECONDS + 0.1) == (b"TIME",)

    session.lost("cut", 72, 0)
    opened(session, 73, links)
    assert session.take_push(73) == (b"TIME",), "another Redis may have another clock"
    session.received(0, [[b"1", b"0"]], 73)
    assert session.take_push(73) == (b"LPUSH", b"q", b'{"id":"4","expires_at_ms":8000}')


def test_a_client_that_may_not_ask_pushes_nothing_that_expires() -> None:
    """client.expiry.clock: such jobs are not queued; others are."""
    session: Calls[str] = Calls(b"q", b"channel")
    opened(session, 0)
    submit(session, "1", 5)
    submit(session, "2", None)
    submit(session, "3", 5)
    session.take_push(0)

    session.received(0, [NOPERM], 1)

    settled = session.take_settled()
    assert [(each.job, type(each.error)) for each in settled] == [
        ("1", NotQueued),
        ("3", NotQueued),
    ]
    assert session.take_push(1) == (b"LPUSH", b"q", b'{"id":"2"}')


def test_a_redis_that_loads_is_asked_later() -> None:
    """client.lost.resubscribes: the job waits for a connection on which Redis tells its time."""
    session: Calls[str] = Calls(b"q", b"channel")
    opened(session, 0)
    submit(session, "1", 5)
    session.take_push(0)

    with pytest.raises(ConnectionLost):
        session.received(0, [LOADING], 1)
    session.lost("loading", 1, 0)

    assert session.take_settled() == []
    assert session.state is State.AWAY


def test_a_job_that_expires_is_as_small_as_others() -> None:
    """client.job.size: with the member that is added when it is pushed."""
    length = messages.LIMIT_BYTES - len(messages.encode_job("m", "", "c", "1"))
    messages.encode_job("m", "x" * length, "c", "1")
    fits = messages.encode_job("m", "x" * (length - messages.EXPIRY_BYTES), "c", "1", expires=True)
    assert len(messages.with_expiry(fits, 10**16 - 1)) == messages.LIMIT_BYTES

    with pytest.raises(ValueError, match="more than"):
        messages.encode_job("m", "x" * length, "c", "1", expires=True)
