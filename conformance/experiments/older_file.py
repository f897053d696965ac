"""A Redis that loses its last second: killed, and started with its append-only file as it was a second before.

What it has forgotten is lost, as Redis says. But whatever it knows is run: no job stays on a list, and no name.
"""

import asyncio
import shutil
from pathlib import Path

import jobqueue.aio
from jobqueue_conformance.redis_servers.local import LocalRedis

OLDER_S = 1.0
SERVERS = 5
L_S, G_S, T_S = 3.0, 5.0, 1.0
REST_S = 60.0  # for jobs and names to be gone; looked at each second
AGAIN_S = 0.05  # after a refused push


class ForgetfulRedis(LocalRedis):
    """One that can come back as it was when it was last remembered."""

    def remember(self) -> None:
        """Copy its files."""
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._folder, self._copy)

    def forget(self) -> None:
        """Kill it, and start it as it was."""
        self.kill()
        shutil.rmtree(self._folder)
        shutil.copytree(self._copy, self._folder)
        self.start()

    @property
    def _copy(self) -> Path:
        return Path(f"{self._folder}-copy")

    def close(self) -> None:
        """End it for good, and remove its folders."""
        super().close()
        shutil.rmtree(self._copy, ignore_errors=True)


async def run(binary: str, number: int) -> list[str]:
    """Restart it again and again while jobs are pushed, then look at what is left."""
    server = ForgetfulRedis(binary)
    try:
        server.keep_data()
        server.kill()
        server.start()
        return await _restarted(server, number)
    finally:
        server.close()


async def _restarted(server: ForgetfulRedis, number: int) -> list[str]:
    fleet = [_server(f"redis://{server.host}:{server.port}/0", life) for life in range(SERVERS)]
    running = [asyncio.create_task(each.run(handle_signals=False)) for each in fleet]
    outcomes: dict[str, int] = {}
    ended = asyncio.Event()
    async with jobqueue.aio.Client(f"redis://{server.host}:{server.port}/0") as client:
        pushing = [asyncio.create_task(_push(client, outcomes, ended)) for _ in range(4)]
        for _ in range(number):
            await asyncio.sleep(OLDER_S)
            server.remember()
            await asyncio.sleep(OLDER_S)
            await asyncio.to_thread(server.forget)
        ended.set()
        await asyncio.gather(*pushing)
    admin = server.connect()
    for _ in range(int(REST_S)):
        lists = [key for key in admin.scan_iter(_type="list") if key != b"job-queue:dead"]
        names = admin.hlen("job-queue:processors")
        if not lists and names == SERVERS:
            break
        await asyncio.sleep(1.0)
    assert not lists, f"{lists} aren't empty {REST_S:g} s after the last restart"
    assert names == SERVERS, f"{names} names are registered, and {SERVERS} servers run"
    dead = admin.llen("job-queue:dead")
    assert not dead, f"{dead} jobs are buried"
    for each in fleet:
        each.stop()
    await asyncio.gather(*running)
    said = ", ".join(f"{count:,} {how}" for how, count in sorted(outcomes.items()))
    return [
        f"{number} restarts with a file that was {OLDER_S:g} s old: {said}; no list and no name left"
    ]


def _server(url: str, life: int) -> jobqueue.aio.Server:
    made = jobqueue.aio.Server(
        url,
        processor=f"server-{life}",
        takeover=True,
        block_timeout=T_S,
        lease_timeout=L_S,
        grace_period=G_S,
    )

    @made.on("wait")
    async def wait(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    return made


async def _push(
    client: jobqueue.aio.Client, outcomes: dict[str, int], ended: asyncio.Event
) -> None:
    while not ended.is_set():
        try:
            await (await client.run("wait", 0.02, timeout=5.0))
            how = "answered"
        except jobqueue.JobQueueError as error:
            how = type(error).__name__
            await asyncio.sleep(AGAIN_S)
        outcomes[how] = outcomes.get(how, 0) + 1
