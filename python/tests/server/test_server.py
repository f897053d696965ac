"""Servers of all four kinds on a real Redis: what they do without faults."""

import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from jobqueue import Client, ConnectionLost, JobError, Server, aio
from redis import Redis

from tests.conftest import DEADLINE_S, Running, left, run_here, until

Serve = Callable[..., Running]


def echo(parameters: Any) -> Any:
    """Return the parameters."""
    return parameters


def job(job_id: str, method: str = "echo", channel: str = "c", **more: Any) -> bytes:
    """The bytes of a job that the reference would write in another way."""
    members = {"method": method, "channel": channel, "id": job_id, "white": "  space  ", **more}
    return json.dumps(members).encode()


def test_the_quickstart_works(serve: Serve, client: Client) -> None:
    """A value comes back, and so do an error of the handler's choice and any other."""

    def choose(_: Any) -> None:
        raise JobError("shop.sold-out", "none left", {"left": 0})

    serve({"echo": echo, "choose": choose, "fail": lambda _: 1 / 0})

    assert client.run("echo", {"request": "hello"}).result(DEADLINE_S) == {"request": "hello"}
    with pytest.raises(JobError) as chosen:
        client.run("choose").result(DEADLINE_S)
    with pytest.raises(JobError) as failed:
        client.run("fail").result(DEADLINE_S)
    assert chosen.value.args == ("shop.sold-out", "none left", {"left": 0})
    assert failed.value.args == ("handler-error", "division by zero", None)


def test_coroutine_functions_are_awaited(kind: str, serve: Serve, client: Client) -> None:
    """On asyncio a handler may be a coroutine function; a server of threads refuses it."""

    async def double(parameters: int) -> int:
        return 2 * parameters

    if kind.startswith("threads"):
        with pytest.raises(TypeError, match="coroutine"):
            serve({"double": double})
        return
    serve({"double": double})

    assert client.run("double", 21).result(DEADLINE_S) == 42


@pytest.mark.parametrize("prefetch", [1, 7])
def test_all_jobs_are_answered(serve: Serve, client: Client, redis: Redis, prefetch: int) -> None:
    """However many are claimed at once, each job has its own result, and nothing is left over."""
    serve({"echo": echo}, prefetch=prefetch)

    jobs = client.run_many([("echo", number) for number in range(500)])

    assert [job.result(DEADLINE_S) for job in jobs] == list(range(500))
    until(lambda: not redis.exists("job-queue", "job-queue:in-process:test"), "empty lists")


@pytest.mark.usefixtures("redis")
def test_handlers_run_at_once_up_to_the_limit(kind: str, redis_url: str) -> None:
    """server.concurrency.parallel, server.concurrency.limit: as many as configured, and no more."""
    limit = 4 if kind.endswith("4") else 1
    meet = threading.Barrier(limit)
    busy, most = [], []

    def together(number: int) -> int:
        busy.append(number)
        most.append(len(busy))
        meet.wait(DEADLINE_S)
        busy.remove(number)
        return number

    server = Server(redis_url, processor="test", block_timeout=0.2, concurrency=limit)
    server.on("together", together)
    running = Running(server)
    with Client(redis_url) as client:
        jobs = client.run_many([("together", number) for number in range(5 * limit - limit % 2)])
        if limit == 1:
            assert [job.result(DEADLINE_S) for job in jobs] == [0, 1, 2, 3]
        else:
            assert {job.result(DEADLINE_S) for job in jobs} == set(range(20))
    running.stop()

    assert max(most) <= limit


def test_odd_messages_are_buried_and_good_ones_answered(
    serve: Serve, client: Client, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """server.run.goes-on, server.dead-list.keeps: whatever is on the queue, logged once each."""
    junk = [b"", b"\xff\xfe", b"[]", b"{}", b'{"id": "x\\ny"}', b"[" * 5_000, b"1e999"]
    redis.lpush("job-queue", *junk)

    with caplog.at_level(logging.WARNING):
        serve({"echo": echo})
        assert client.run("echo", 1).result(DEADLINE_S) == 1
        until(lambda: redis.llen("job-queue:dead") == len(junk), "all junk on the dead list")

    assert sorted(redis.lrange("job-queue:dead", 0, -1)) == sorted(junk)
    until(lambda: redis.llen("job-queue:in-process:test") == 0, "all junk removed")
    lines = [record.getMessage() for record in caplog.records if "dead" in record.getMessage()]
    assert len(lines) == len(junk)
    assert not any("\n" in line for line in lines)


def test_a_job_can_be_found_in_the_log(
    serve: Serve, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A failed job is logged with its channel, its id and the traceback, which stays at home."""
    serve({"fail": lambda _: 1 / 0})

    with caplog.at_level(logging.ERROR), pytest.raises(JobError) as failed:
        (job := client.run("fail")).result(DEADLINE_S)

    assert f"method=fail channel={job.channel} id={job.id}" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert "Traceback" not in str(failed.value)


def test_a_handler_may_raise_anything(serve: Serve, client: Client) -> None:
    """server.run.goes-on: not even SystemExit stops the server."""

    def leave(_: Any) -> None:
        raise SystemExit(3)

    serve({"leave": leave, "echo": echo})

    with pytest.raises(JobError, match="handler-error: 3"):
        client.run("leave").result(DEADLINE_S)
    assert client.run("echo", 1).result(DEADLINE_S) == 1


def test_the_bytes_that_were_claimed_are_removed(serve: Serve, redis: Redis) -> None:
    """server.remove.exact-bytes: white space and unknown members are part of the entry."""
    redis.lpush("job-queue", job("1", unknown={"a": [1.0, 1e2]}))

    serve({"echo": echo})

    until(lambda: not left(redis), "no key to be left")


def test_a_list_is_recovered_oldest_first(kind: str, serve: Serve, redis: Redis) -> None:
    """server.recovery.first, server.recovery.order: before what waits in the queue."""
    order: list[str] = []
    redis.lpush("job-queue", job("queued", parameters="queued"))
    redis.lpush("job-queue:in-process:test", *(job(n, parameters=n) for n in ("oldest", "older")))

    serve({"echo": order.append})

    until(lambda: len(order) == 3, "three runs")
    if kind in {"threads", "asyncio"}:
        assert order == ["oldest", "older", "queued"]
    assert order[-1] == "queued"


def test_a_ghost_pop_is_found_after_t(serve: Serve, redis: Redis) -> None:
    """server.recovery.second-look: what appears on the list after the first look."""
    redis.lpush("job-queue", job("1"))
    serve({"echo": echo}, block_timeout=1.0)
    until(lambda: not left(redis), "the first job's end")

    redis.lpush("job-queue:in-process:test", job("ghost"))

    until(lambda: not left(redis), "the ghost to be run")


def test_a_server_is_confined_to_prefixes(serve: Serve, client: Client, redis: Redis) -> None:
    """server.channel-prefix.confined: a job for another channel is dead."""
    elsewhere = job("1", channel="elsewhere")
    redis.lpush("job-queue", elsewhere)

    serve({"echo": echo}, channel_prefixes=["job-queue:results:"])

    assert client.run("echo", 1).result(DEADLINE_S) == 1
    until(lambda: redis.lrange("job-queue:dead", 0, -1) == [elsewhere], "it on the dead list")


@pytest.mark.parametrize("make", [Server, aio.Server])
@pytest.mark.parametrize(
    "options,error",
    [
        ({"concurrency": 0}, ValueError),
        ({"prefetch": 0}, ValueError),
        ({"attempts": 1}, ValueError),
        ({"takeover": True, "block_timeout": 0.4, "lease_timeout": 1.0}, ValueError),
        ({"takeover": True, "lease_timeout": 20.0, "grace_period": 10.0}, ValueError),
        ({"attempts": -1}, ValueError),
        ({"keep_limit": -1}, ValueError),
        ({"block_timeout": 0}, ValueError),
        ({"block_timeout": 5.1}, ValueError),
        ({"queue": ""}, ValueError),
        ({"processor": ""}, ValueError),
        ({"in_process": ""}, ValueError),
        ({"channel_prefixes": "q:"}, ValueError),
        ({"source": 7}, TypeError),
    ],
)
def test_settings_out_of_range_are_refused(
    make: type[Server], options: dict[str, Any], error: type[Exception]
) -> None:
    """The mistake is reported before anything is claimed."""
    with pytest.raises(error):
        make(**options)


@pytest.mark.parametrize("make", [Server, aio.Server])
def test_a_server_can_be_made_with_other_settings(make: type[Server]) -> None:
    """What is given replaces its own; the handlers are shared, and the first one stays as it was."""
    server = make("redis://localhost:1/1", queue="q", processor="p", prefetch=7)
    whole = make(in_process="whole", takeover=False)

    other = server.with_settings(queue="r", concurrency=3)
    other.on("echo", echo)

    assert type(other) is make
    assert (server.in_process, other.in_process) == ("q:in-process:p", "r:in-process:p")
    assert server.with_settings(processor="o").in_process == "q:in-process:o"
    assert server.with_settings(in_process="q:key").in_process == "q:key"
    assert server.with_settings(in_process="key", takeover=False).in_process == "key"
    assert whole.with_settings(queue="r").in_process == "whole"
    assert whole.with_settings(processor="p").in_process == "job-queue:in-process:p"
    with pytest.raises(ValueError, match="already registered for method 'echo'"):
        server.on("echo", echo)
    with pytest.raises(ValueError, match="attempts"):
        server.with_settings(attempts=1)
    with pytest.raises(ValueError, match="in_process must begin with r:"):
        server.with_settings(queue="r", in_process="q:key")
    with pytest.raises(ValueError, match="concurrency"):
        server.with_settings(concurrency=0)
    with pytest.raises(ValueError, match="URL"):
        server.with_settings(source="http://localhost")


def test_a_server_runs_once(serve: Serve, redis_url: str) -> None:
    """After a stop, and while it runs, a second run is refused, and disturbs nothing."""
    running = serve({"echo": echo})
    with Client(redis_url) as client:
        assert client.run("echo", 1).result(DEADLINE_S) == 1
        with pytest.raises(RuntimeError, match="runs once"):
            run_here(running.server)
        assert client.run("echo", 2).result(DEADLINE_S) == 2
    running.stop()

    with pytest.raises(RuntimeError, match="runs once"):
        run_here(running.server)


def test_a_server_that_found_no_redis_may_run_again(kind: str) -> None:
    """Nothing was claimed, and the error is the same each time."""
    make = aio.Server if kind.startswith("asyncio") else Server
    server = make("redis://127.0.0.1:1/0", processor="nobody")

    for _ in range(2):
        with pytest.raises(ConnectionLost, match="can't connect"):
            run_here(server)


def test_a_method_has_one_handler() -> None:
    """A second handler, or one without a name, is a mistake."""
    server = Server()

    @server.on("echo")
    def first(parameters: Any) -> Any:
        return parameters

    assert server.on("other", echo) is echo
    assert first(1) == 1
    with pytest.raises(ValueError, match="already registered for method 'echo'"):
        server.on("echo", echo)
    with pytest.raises(ValueError, match="non-empty"):
        server.on("", echo)
