"""A fleet of asyncio servers with takeover in one process, clients that push to it, and what must be left of them."""

import asyncio
from contextlib import suppress

import jobqueue.aio
from redis import Redis

SERVERS = 5
L_S, G_S, T_S = 3.0, 5.0, 1.0
REST_S = 60.0  # for jobs and names to be gone; looked at each second
AGAIN_S = 0.05  # after a refused push


class Fleet:
    """Servers whose names count up: a killed one never comes back.

    Args:
        url: Of Redis.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lives = 0
        self._running: list[tuple[jobqueue.aio.Server, asyncio.Task[None]]] = []
        for _ in range(SERVERS):
            self._start()

    async def replace(self) -> None:
        """End the oldest server in the middle of whatever it does, and start one under another name."""
        _, task = self._running.pop(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        self._start()

    async def stop(self) -> None:
        """End all gracefully."""
        for server, _ in self._running:
            server.stop()
        await asyncio.gather(*(task for _, task in self._running))

    def _start(self) -> None:
        server = jobqueue.aio.Server(
            self._url,
            processor=f"server-{self._lives}",
            block_timeout=T_S,
            lease_timeout=L_S,
            grace_period=G_S,
        )
        server.on("wait", _wait)
        self._lives += 1
        self._running.append((server, asyncio.create_task(server.run(handle_signals=False))))


async def _wait(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


async def push(
    client: jobqueue.aio.Client, outcomes: dict[str, int], ended: asyncio.Event, timeout_s: float
) -> None:
    """Push one job after another, and count how they end."""
    while not ended.is_set():
        try:
            await (await client.run("wait", 0.02, timeout=timeout_s))
            how = "answered"
        except jobqueue.JobQueueError as error:
            how = type(error).__name__
            await asyncio.sleep(AGAIN_S)
        outcomes[how] = outcomes.get(how, 0) + 1


async def require_calm(admin: Redis) -> None:
    """Check that soon no job is on a list, and no name registered but those of the servers that run."""
    for _ in range(int(REST_S)):
        lists = [key for key in admin.scan_iter(_type="list") if key != b"job-queue:dead"]
        names = admin.hlen("job-queue:processors")
        if not lists and names == SERVERS:
            break
        await asyncio.sleep(1.0)
    assert not lists, f"{lists} aren't empty {REST_S:g} s after the last fault"
    assert names == SERVERS, f"{names} names are registered, and {SERVERS} servers run"
    dead = admin.llen("job-queue:dead")
    assert not dead, f"{dead} jobs are buried"


def told(outcomes: dict[str, int]) -> str:
    """How the jobs ended, in words."""
    return ", ".join(f"{count:,} {how}" for how, count in sorted(outcomes.items()))
