"""A Redis that loses its last second: killed, and started with its append-only file as it was a second before.

What it has forgotten is lost, as Redis says. But whatever it knows is run: no job stays on a list, and no name.
"""

import asyncio
import shutil
from pathlib import Path

import jobqueue.aio
from jobqueue_conformance.redis_servers.local import LocalRedis

from experiments.fleet import Fleet, push, require_calm, told

OLDER_S = 1.0


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
    url = f"redis://{server.host}:{server.port}/0"
    fleet = Fleet(url)
    outcomes: dict[str, int] = {}
    ended = asyncio.Event()
    async with jobqueue.aio.Client(url) as client:
        pushing = [asyncio.create_task(push(client, outcomes, ended, 5.0)) for _ in range(4)]
        for _ in range(number):
            await asyncio.sleep(OLDER_S)
            server.remember()
            await asyncio.sleep(OLDER_S)
            await asyncio.to_thread(server.forget)
        ended.set()
        await asyncio.gather(*pushing)
    await require_calm(server.connect())
    await fleet.stop()
    return [
        f"{number} restarts with a file that was {OLDER_S:g} s old: {told(outcomes)}; no list and no name left"
    ]
