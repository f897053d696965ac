"""Many idle servers on one Redis, with takeover and without it."""

import asyncio
from contextlib import closing

import jobqueue.aio
from jobqueue_conformance.redis_servers.local import LocalRedis

from experiments.redis_costs import Costs

MEASURED_S = 24.0  # three times L
APART_S = 0.05  # so that each connects in time, in one process
SETTLES_S = 8.0  # until each has scanned at its start


async def run(binary: str, number: int) -> list[str]:
    """Measure the idle fleet, and its registry when it has stopped."""
    lines: list[str] = []
    with closing(LocalRedis(binary)) as server:
        admin = server.connect()
        for takeover in (False, True):
            fleet = [
                jobqueue.aio.Server(
                    f"redis://{server.host}:{server.port}/0",
                    processor=f"server-{each}",
                    takeover=takeover,
                )
                for each in range(number)
            ]
            running = []
            for each in fleet:
                running.append(asyncio.create_task(each.run(handle_signals=False)))
                await asyncio.sleep(APART_S)
            await asyncio.sleep(SETTLES_S)
            costs = Costs(admin)
            await asyncio.sleep(MEASURED_S)
            lines += costs.lines(f"{number} idle servers, takeover={takeover}")
            for each in fleet:
                each.stop()
            await asyncio.gather(*running)
            left = admin.hlen("job-queue:processors")
            assert not left, f"{left} names are left when all servers have stopped"
    return lines
