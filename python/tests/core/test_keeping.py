"""The feature `kept-results`, server's half: what is stored, for how long, and what if Redis refuses."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue.core.keeping import AGAIN_SECONDS, Keeping, finish_now
from jobqueue.core.parallel import BATCH, Parallel
from jobqueue.core.reconnect import Backoff
from jobqueue.core.serial import Serial
from jobqueue.core.steps import (
    Confirmed,
    Connect,
    Exchange,
    Handle,
    Moment,
    Now,
    Outcomes,
    TimedExchange,
)
from jobqueue.protocol import commands, messages
from jobqueue.protocol.commands import ErrorReply, Unavailable, Unstored
from jobqueue.protocol.keys import Keys
from jobqueue.protocol.messages import Answer, Dead, Spent
from redis import Redis

from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.core.steps import Steps

    from tests.conftest import Running

VECTORS = json.loads((Path(__file__).parents[3] / "fixtures/keeps.json").read_text("utf-8"))
HOUR_MS = 3_600_000
FIRST_WAIT: Any = pytest.approx(0.05)
KEYS = Keys.of("q", "p")
ANSWER = Answer(b"job", b"channel", "1", b"result", 60_000)
KEY = b"q:result:" + hashlib.sha1(b"job", usedforsecurity=False).hexdigest().encode()
STORE = (b"SET", KEY, b"result", b"NX", b"PX", b"60000")
PUBLISH = (b"PUBLISH", b"channel", b"result")
REMOVE = (b"LREM", b"q:in-process:p", b"-1", b"job")
BURY = (b"LPUSH", b"q:dead", b"job")
TRANSACTION = [(b"MULTI",), STORE, PUBLISH, REMOVE, (b"EXEC",)]
OOM = ErrorReply("OOM", "OOM command not allowed when used memory > 'maxmemory'.")
NOPERM = ErrorReply("NOPERM", "NOPERM User a has no permissions to run the 'set' command")
READONLY = ErrorReply("READONLY", "READONLY a replica")
ABORTED = ErrorReply("EXECABORT", "EXECABORT Transaction discarded")
REFUSED = [b"OK", OOM, b"QUEUED", b"QUEUED", ABORTED]
KEPT = [b"OK", b"QUEUED", b"QUEUED", b"QUEUED", [b"OK", 1, 1]]


def job(keep_ms: str = "60000", **members: object) -> bytes:
    """A job on the queue, with the text of its `keep_ms`."""
    whole = json.dumps({"method": "echo", "channel": "c", "id": "1", **members})
    return f'{whole[:-1]}, "keep_ms": {keep_ms}}}'.encode()


def milliseconds(decision: Any, limit_ms: int = HOUR_MS) -> int:
    """For how long the result of a decision would be stored."""
    answer = decision
    if isinstance(decision, messages.Run):
        answer = messages.succeed(decision, None)
    return Keeping(limit_ms).milliseconds(answer)


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["id"])
def test_a_result_is_stored_for_its_number(vector: dict[str, Any]) -> None:
    """server.kept.value: rounded down, up to the limit; what isn't such a number is ignored."""
    decision = messages.decide(job(vector["keep_ms"]), {"echo"})

    assert milliseconds(decision) == (vector["stored_ms"] or 0)


def test_every_answer_is_stored() -> None:
    """server.kept.stores: the errors of the registry, too, and that of a job that is given up."""
    invalid, unknown = job(method=""), job(method="nobody")
    failed = messages.fail(messages.decide(job(), {"echo"}), ValueError("no"))  # type: ignore[arg-type]

    assert milliseconds(messages.decide(invalid, {"echo"})) == 60_000
    assert milliseconds(messages.decide(unknown, {"echo"})) == 60_000
    assert milliseconds(failed) == 60_000
    assert milliseconds(messages.give_up(Spent(job(), readable=True))) == 60_000
    assert milliseconds(messages.give_up(Spent(job(), readable=False))) == 0
    assert milliseconds(messages.decide(job(id=""), {"echo"})) == 0


def test_a_server_may_keep_nothing() -> None:
    """server.kept.value: nothing is longer than a limit of 0."""
    assert milliseconds(messages.decide(job(), {"echo"}), 0) == 0


def lead(led: commands.Commands[Any], *replies: list[Any]) -> tuple[list[Any], Any]:
    """Answer the writes with the replies; return the writes, and what it returns."""
    writes = [next(led), *(led.send(reply) for reply in replies[:-1])]
    with pytest.raises(StopIteration) as end:
        led.send(replies[-1])
    return writes, end.value.value


def finish(outcome: Answer | Dead, *, transactions: bool) -> commands.Commands[Any]:
    """Finish an outcome whose result is to be kept."""
    return commands.finish(KEYS, outcome, transactions=transactions, keep_ms=60_000)


def test_a_result_is_stored_in_the_step_that_publishes_it() -> None:
    """server.kept.stores, server.kept.first: one write, which stores, publishes and removes."""
    led = finish(ANSWER, transactions=True)

    assert lead(led, KEPT) == ([TRANSACTION], None)


def test_a_result_that_is_there_is_left() -> None:
    """server.kept.first: the second run publishes its own."""
    led = finish(ANSWER, transactions=True)

    assert lead(led, [*KEPT[:-1], [None, 1, 1]]) == ([TRANSACTION], None)


@pytest.mark.parametrize("stored", [b"OK", None, NOPERM])
def test_without_transactions_one_follows_the_other(stored: object) -> None:
    """server.kept.stores, server.kept.refused: each is sent after the reply to the one before."""
    led = finish(ANSWER, transactions=False)

    assert lead(led, [stored], [1], [1]) == ([[STORE], [PUBLISH], [REMOVE]], None)


def test_without_the_right_to_store_it_is_published() -> None:
    """server.kept.refused: a transaction in which SET is forbidden is taken apart."""
    led = finish(ANSWER, transactions=True)

    writes, _ = lead(led, [b"OK", NOPERM, b"QUEUED", b"QUEUED", ABORTED], [NOPERM], [1], [1])

    assert writes == [TRANSACTION, [STORE], [PUBLISH], [REMOVE]]


def test_without_memory_nothing_happens() -> None:
    """server.kept.again: nothing is published or removed, so that it can be tried again."""
    assert lead(finish(ANSWER, transactions=True), REFUSED, [OOM])[1] == Unstored()
    assert lead(finish(ANSWER, transactions=False), [OOM])[1] == Unstored()


def test_a_redis_that_cannot_serve_stores_nothing() -> None:
    """server.connection.refused: the connection counts as lost, and the job is answered again."""
    led = finish(ANSWER, transactions=False)
    next(led)

    with pytest.raises(Unavailable):
        led.send([READONLY])


def test_the_answer_to_a_job_that_is_given_up_is_stored_first() -> None:
    """server.kept.stores, server.attempts.limit: stored, published, buried, removed."""
    dead = Dead(b"job", "given up", ANSWER)

    writes, _ = lead(finish(dead, transactions=True), [b"OK"], [1], [1], [1])

    assert writes == [[STORE], [PUBLISH], [BURY], [REMOVE]]
    assert lead(finish(dead, transactions=True), [OOM])[1] == Unstored()


def test_a_dead_message_has_nothing_to_store() -> None:
    """server.dead.silent: without an answer, nothing is stored."""
    writes, _ = lead(finish(Dead(b"job", "junk"), transactions=True), [1], [1])

    assert writes == [[BURY], [REMOVE]]


def test_a_refused_result_is_tried_again_for_five_seconds(caplog: pytest.LogCaptureFixture) -> None:
    """server.kept.again, server.kept.refused: with longer waits, and then not stored."""
    keeping, now, tries = Keeping(HOUR_MS), 100.0, 0
    while keeping.milliseconds(ANSWER):
        keeping.refused(ANSWER, Moment(now, stopping=False))
        assert keeping.due(Moment(now, stopping=False)) == []
        assert 0 < keeping.wait_seconds(now) <= 1
        now += keeping.wait_seconds(now)
        assert keeping.due(Moment(now, stopping=False)) == [ANSWER]
        tries += 1

    assert now == 100.0 + AGAIN_SECONDS
    assert 10 <= tries <= 20
    assert not keeping.waits
    keeping.confirmed(ANSWER)
    assert "no memory to keep a result" in caplog.text
    assert keeping.milliseconds(ANSWER) == 60_000, "another job with the same bytes"


def test_a_stop_publishes_what_waits() -> None:
    """server.kept.again: not beyond a SIGTERM."""
    keeping = Keeping(HOUR_MS)
    keeping.refused(ANSWER, Moment(100.0, stopping=False))

    assert keeping.due(Moment(100.0, stopping=True)) == [ANSWER]
    assert keeping.milliseconds(ANSWER) == 0


def test_a_look_takes_over_what_waits() -> None:
    """server.recovery.running: what a look sends again isn't sent a second time."""
    keeping, other = Keeping(HOUR_MS), Answer(b"other", b"c", "2", b"r", 1)
    for each in (ANSWER, other):
        keeping.refused(each, Moment(100.0, stopping=False))

    keeping.looked([ANSWER])

    assert keeping.due(Moment(200.0, stopping=False)) == []
    keeping.refused(ANSWER, Moment(104.9, stopping=False))
    assert keeping.due(Moment(105.0, stopping=False)) == [ANSWER], "its 5 seconds began before"
    assert keeping.milliseconds(ANSWER) == 0
    assert keeping.milliseconds(other) == 1, "somebody else removed it"


def test_a_stored_result_is_no_reason_for_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """server.kept.again: the second try stored it."""
    keeping = Keeping(HOUR_MS)
    keeping.refused(ANSWER, Moment(100.0, stopping=False))

    keeping.confirmed(ANSWER)

    assert not caplog.records


def test_at_its_end_a_server_publishes_at_once() -> None:
    """server.takeover.lost-name: what was running is finished, with or without keeping it."""
    kept = finish_now(KEYS, ANSWER, Keeping(HOUR_MS), transactions=False)
    refused = finish_now(KEYS, ANSWER, Keeping(HOUR_MS), transactions=False)

    assert take(kept, [b"OK"], [1], [1]) == [[STORE], [PUBLISH], [REMOVE]]
    assert take(refused, [OOM], [1], [1]) == [[STORE], [PUBLISH], [REMOVE]]


def take(steps: Steps[Any], *replies: list[Any]) -> list[Any]:
    """Answer each exchange with the replies; return the writes."""
    writes, step = [], next(steps)
    for reply in replies:
        assert isinstance(step, Exchange)
        writes.append(step.commands)
        try:
            step = steps.send(reply)
        except StopIteration:
            break
    return writes


def test_a_server_of_one_job_goes_on_meanwhile() -> None:
    """server.kept.again: other jobs are claimed and run, and the claim ends when it is due again."""
    steps = Serial(KEYS, prefetch=1, block_seconds=2.0, keep_ms=HOUR_MS).session(Backoff())
    move = (b"q", b"q:in-process:p", b"RIGHT", b"LEFT")
    at = Moment(100.0, stopping=False)
    now = (Now(), at)
    look = Exchange([(b"LRANGE", b"q:in-process:p", b"0", b"-1")], 1)
    claim = (b"BLMOVE", *move)
    script: list[tuple[Any, Any]] = [
        *[now, (Exchange([(b"MULTI",), (b"EXEC",)], 2), [b"OK", []]), now, (look, [[]])],
        *[now, now, (TimedExchange([(*claim, b"2.000")], 1), ([b"job"], at))],
        (Handle(b"job"), (ANSWER, at)),
        (TimedExchange([*TRANSACTION, (*claim, b"2.000")], 6), ([*REFUSED, b"next"], at)),
        *[(Exchange([STORE], 1), [OOM]), now],
    ]
    step: Any = None
    for expected, answer in script:
        step = next(steps) if step is None else step
        assert (type(step), step) == (type(expected), expected)
        step = steps.send(answer)
    assert step == Handle(b"next")
    step = steps.send((Answer(b"next", b"c", "2", b"r"), at))
    assert isinstance(step, TimedExchange)
    assert step.commands[-1] == (*claim, b"0.050"), "until it is tried again"
    step = steps.send(([b"OK", b"QUEUED", b"QUEUED", [1, 1], None], at))
    assert step == Now()
    step = steps.send(Moment(100.05, stopping=False))
    assert step == Now(), "it is due: its transaction leaves with the next claim"
    step = steps.send(Moment(100.05, stopping=False))
    assert isinstance(step, TimedExchange)
    assert step.commands == [*TRANSACTION, (*claim, b"2.000")]


def test_a_server_of_many_jobs_goes_on_meanwhile() -> None:
    """server.kept.again: other outcomes are published, and after a while it is tried again."""
    server = Parallel(KEYS, concurrency=3, prefetch=1, block_seconds=2.0, keep_ms=HOUR_MS)
    other = Answer(b"other", b"c", "2", b"r")
    published = [b"OK", b"QUEUED", b"QUEUED", [1, 1]]
    script: list[tuple[Any, Any]] = [
        *[(Outcomes(BATCH), [ANSWER]), (Connect(), None)],
        *[(Exchange([(b"MULTI",), (b"EXEC",)], 2), [b"OK", []])],
        *[(Exchange(TRANSACTION, 5), REFUSED), (Exchange([STORE], 1), [OOM])],
        *[(Now(), Moment(100.0, stopping=False)), (Confirmed([]), None)],
        *[(Now(), Moment(100.0, stopping=False)), (Outcomes(BATCH, FIRST_WAIT), [other])],
        (next_write(other), published),
        *[(Confirmed([b"other"]), None), (Now(), Moment(100.0, stopping=False))],
        *[(Outcomes(BATCH, FIRST_WAIT), None), (Now(), Moment(100.1, stopping=False))],
        *[(Exchange(TRANSACTION, 5), KEPT), (Confirmed([b"job"]), None), (Outcomes(BATCH), [])],
    ]
    steps = server.confirming()
    step: Any = next(steps)
    for expected, answer in script:
        assert step == expected
        try:
            step = steps.send(answer)
        except StopIteration:
            step = None
    assert step is None


def next_write(outcome: Answer) -> Exchange:
    """What publishes and removes a result that isn't kept."""
    write = [
        (b"MULTI",),
        (b"PUBLISH", outcome.channel, outcome.result),
        (b"LREM", b"q:in-process:p", b"-1", outcome.message),
        (b"EXEC",),
    ]
    return Exchange(write, len(write))


def stored(redis: Redis) -> dict[str, tuple[Any, int]]:
    """The stored results of the default queue, with their times to live."""
    found = [key.decode() for key in redis.scan_iter(match="job-queue:result:*")]
    return {key: (json.loads(redis.get(key) or b""), redis.pttl(key)) for key in found}


def key_of(message: bytes) -> str:
    """The key of a message's stored result."""
    return f"job-queue:result:{hashlib.sha1(message, usedforsecurity=False).hexdigest()}"


def test_a_server_stores_what_a_job_asks_for(
    serve: Callable[..., Running], redis: Redis, kind: str
) -> None:
    """server.kept.stores, server.kept.value: by all four kinds of servers, and no other result."""
    assert kind
    kept, limited, other = (
        job(),
        job("1e300", id="2"),
        b'{"method": "x", "channel": "c", "id": "3"}',
    )
    redis.lpush("job-queue", kept, limited, other)

    serve({"echo": lambda parameters: parameters}, keep_limit=600)

    found = until(lambda: len(redis.keys("job-queue:result:*")) == 2 and stored(redis), "results")
    until(lambda: not redis.exists("job-queue", "job-queue:in-process:test"), "all jobs")
    assert found[key_of(kept)][0] == {"id": "1", "result": None}
    assert 0 < found[key_of(kept)][1] <= 60_000
    assert 60_000 < found[key_of(limited)][1] <= 600_000
    assert len(stored(redis)) == 2


def test_memory_that_comes_back_stores_it(
    serve: Callable[..., Running], redis: Redis, kind: str
) -> None:
    """server.kept.again, server.kept.refused: without memory it is published at last, never buried."""
    assert kind
    started: list[str] = []

    def fill(_: Any) -> None:
        redis.config_set("maxmemory", 1)
        started.append("now")

    with Redis.pubsub(redis) as listener:  # type: ignore[no-untyped-call]
        listener.subscribe("c")
        redis.lpush("job-queue", job())
        serve({"echo": fill})
        until(lambda: started, "the handler")
        first = until(lambda: redis.info("errorstats").get("errorstat_OOM"), "a refusal")
        until(
            lambda: redis.info("errorstats")["errorstat_OOM"]["count"] > first["count"], "another"
        )
        redis.config_set("maxmemory", 0)
        until(lambda: stored(redis).get(key_of(job())), "the stored result")
        until(lambda: listener.get_message(ignore_subscribe_messages=True), "the published result")
    assert not redis.exists("job-queue:dead")
