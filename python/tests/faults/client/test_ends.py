"""A program or an event loop that ends without closing its clients: what was submitted is pushed."""

import contextlib

import pytest
from redis import Redis

from tests.faults.program import run_program
from tests.faults.relay import Relay

EXITS = {
    "at its last line": ("client.run('last')", 0),
    "by sys.exit": ("client.run('last'); sys.exit()", 0),
    "by an exception": ("client.run('last'); sys.excepthook = print; raise LookupError", 1),
    "without the client": ("del client; Client(sys.argv[1]).run('last')", 0),
    "while a thread pushes": ("threading.Thread(target=client.run, args=['last']).start()", 0),
}


@pytest.mark.parametrize("name", EXITS)
def test_a_program_that_ends_without_closing(redis_url: str, redis: Redis, name: str) -> None:
    """What was submitted last is on the queue, and the program ends though jobs are outstanding."""
    end, status = EXITS[name]
    program = f"""
    import sys, threading
    from jobqueue import Client
    client = Client(sys.argv[1])
    client.run("first")
    {end}
    """
    with contextlib.nullcontext() if status == 0 else pytest.raises(AssertionError, match="with 1"):
        run_program(program, redis_url)
    assert redis.llen("job-queue") == 2


def test_a_program_that_ends_without_redis(relay: Relay) -> None:
    """A Redis that doesn't answer holds up nobody's end for longer than a few seconds."""
    program = """
    import sys
    from jobqueue import Client
    client = Client(sys.argv[1])
    client.run("first")
    """
    with relay.held():
        assert run_program(program, relay.url) == ""


LOOPS = {
    "at once": (["last()"], 1),
    "behind a job that waits": (["never()", "asyncio.sleep(0.01)", "last()"], 2),
    "with a connection": (["echo()", "last()"], 1),
    "without the client": (["aio.Client(sys.argv[1]).run('last')"], 1),
    "with more than a socket holds": (["client.run_many(LARGE)"], 30),
    "by an exception": (["echo()", "last()", "fail()"], 1),
    "by Control-C": (["last()", "interrupt()"], 1),
    "by another's cancelling": (["last()", "cancel_all()"], 1),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_that_ends_without_closing(redis_url: str, redis: Redis, name: str) -> None:
    """`asyncio.run` waits until what was submitted last is on the queue, and no longer."""
    awaited, queued = LOOPS[name]
    program = f"""
    import asyncio, contextlib, os, signal, sys
    from jobqueue import aio
    LARGE = [("large", "x" * 900_000)] * 30
    client = aio.Client(sys.argv[1])

    async def never():
        await client.run("never")

    async def last():
        await client.run("last")

    async def echo():
        job = await client.run("echo")
        async with aio.Client(sys.argv[1]):
            server = aio.Server(sys.argv[1], processor="test")
            server.on("echo", lambda value: server.stop())
            await server.run()
            await job

    async def fail():
        raise LookupError

    async def interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(60)

    async def cancel_all():
        for task in asyncio.all_tasks():
            task.cancel()

    async def main():
        {"; ".join(f"await {each}" for each in awaited)}

    with contextlib.suppress(LookupError, KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(main())
    """
    assert run_program(program, redis_url) == ""
    assert redis.llen("job-queue") == queued


def test_a_loop_that_is_closed_at_once(redis_url: str, redis: Redis) -> None:
    """What was under way there is discarded without more noise than asyncio itself makes."""
    program = """
    import asyncio, gc, logging, sys
    from jobqueue import aio

    logging.disable()  # of tasks that were destroyed, as asyncio says

    async def main():
        await client.run("first")
        while client._sessions and not any(each._streams for each in client._sessions.values()):
            await asyncio.sleep(0)

    client = aio.Client(sys.argv[1])
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    del loop, client
    gc.collect()
    """
    assert run_program(program, redis_url) == ""
    assert redis.llen("job-queue") <= 1, "it may have left before"


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("handler", ["asyncio.sleep(3600)", "asyncio.Future()", "claims()"])
def test_a_server_in_a_loop_that_is_closed(
    redis_url: str, redis: Redis, handler: str, concurrency: int
) -> None:
    """A server that is discarded says and answers nothing: its job is on the list."""
    program = f"""
    import asyncio, gc, logging, sys
    from jobqueue import aio
    logging.basicConfig(level="INFO", format="%(message)s")
    logging.getLogger("asyncio").disabled = True  # of tasks that were destroyed

    async def claims():
        begun.set()
        while True:
            await asyncio.sleep(0)

    async def handle(_):
        begun.set()
        await {handler}

    async def main():
        global begun, serving
        begun = asyncio.Event()
        server = aio.Server(sys.argv[1], processor="test", concurrency={concurrency})
        server.on("hostile", handle)
        serving = asyncio.create_task(server.run())
        await begun.wait()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    del loop, begun, serving
    gc.collect()
    print("end")
    """
    redis.lpush("job-queue", '{"method": "hostile", "channel": "c", "id": "1"}')

    first, *rest = run_program(program, redis_url).splitlines()

    assert first.startswith("serving ")
    assert rest == ["end"]
    assert redis.llen("job-queue:in-process:test") == 1


def test_a_loop_that_ends_without_redis(relay: Relay) -> None:
    """A Redis that doesn't answer holds up no loop's end for longer than a few seconds."""
    program = """
    import asyncio, sys
    from jobqueue import aio

    async def main():
        await aio.Client(sys.argv[1]).run("first")

    asyncio.run(main())
    """
    with relay.held():
        assert run_program(program, relay.url) == ""
