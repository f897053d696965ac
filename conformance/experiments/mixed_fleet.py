"""A fleet of servers with and without takeover under load: upgraded one by one, killed, and downgraded again."""

import asyncio
from contextlib import closing, suppress
from typing import Any

import jobqueue.aio
from jobqueue import admin
from jobqueue_conformance.redis_servers.local import LocalRedis

SERVERS = 4
QUEUE = "job-queue"
NAMES = f"{QUEUE}:processors"
APART_S = 0.3  # between two servers, so that the fleet is mixed for a while
ADOPTED_S = (
    8.0  # L + C + 1 s, and a second more, in which the others have run what a killed one left
)
TAKEOVER: dict[bool, dict[str, Any]] = {
    True: {"takeover": True, "lease_timeout": 3.0, "grace_period": 5.0},
    False: {"takeover": False},
}


class Slot:
    """A server's name, and the task in which its present life runs."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name

    def start(self, *, takeover: bool) -> None:
        """Begin a life."""
        self._server = jobqueue.aio.Server(
            self._url, processor=self._name, block_timeout=1.0, **TAKEOVER[takeover]
        )
        self._server.on("wait", _wait)
        self._task = asyncio.create_task(self._server.run(handle_signals=False))

    async def stop(self) -> None:
        """End it gracefully."""
        self._server.stop()
        await self._task

    async def kill(self) -> None:
        """End it in the middle of whatever it does."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


async def _wait(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


async def run(binary: str, number: int) -> list[str]:
    """Upgrade and downgrade the fleet so many times, while jobs are pushed."""
    with closing(LocalRedis(binary)) as server:
        url = f"redis://{server.host}:{server.port}/0"
        redis = server.connect()
        fleet = [Slot(url, f"server-{each}") for each in range(SERVERS)]
        for slot in fleet:
            slot.start(takeover=False)
        answered: list[float] = []
        ended = asyncio.Event()
        async with jobqueue.aio.Client(url) as client:
            pushing = [asyncio.create_task(_push(client, answered, ended)) for _ in range(8)]
            for turn in range(number):
                for slot in fleet:
                    await slot.stop()
                    slot.start(takeover=True)
                    await asyncio.sleep(APART_S)
                await fleet[turn % SERVERS].kill()  # its jobs are adopted by the others
                await asyncio.sleep(ADOPTED_S)
                for at, slot in enumerate(fleet):
                    if at != turn % SERVERS:
                        await slot.stop()
                    admin.unregister(redis, f"{QUEUE}:in-process:server-{at}")
                    slot.start(takeover=False)
                    await asyncio.sleep(APART_S)
            ended.set()
            pushed = sum(await asyncio.gather(*pushing))
        for slot in fleet:
            await slot.stop()
        lists = list(redis.scan_iter(_type="list"))
        assert not lists, f"{lists} are left"
        assert not redis.hlen(NAMES), f"{redis.hkeys(NAMES)} are left"
    assert pushed == len(answered), f"{pushed} jobs pushed, {len(answered)} answered"
    return [f"{number} upgrades and downgrades of {SERVERS} servers: {pushed:,} jobs, all answered"]


async def _push(client: jobqueue.aio.Client, answered: list[float], ended: asyncio.Event) -> int:
    pushed = 0
    while not ended.is_set():
        pushed += 1
        answered.append(await (await client.run("wait", 0.01, timeout=60.0)))
    return pushed
