"""One server, and a registry full of the names of servers that are gone."""

import asyncio
from contextlib import closing
from typing import Any

import jobqueue.aio
from jobqueue_conformance.redis_servers.local import LocalRedis

from experiments.redis_costs import Costs

BATCH = 10_000
MEASURED_S = 24.0
L_S = 8.0


async def run(binary: str, number: int) -> list[str]:
    """Measure scans of names whose lists were found empty, and how soon names that are due are forgotten."""
    lines: list[str] = []
    with closing(LocalRedis(binary)) as server:
        admin = server.connect()
        for title, ago_ms in (("of a minute ago", 60_000), ("of two hours ago", 7_200_000)):
            now_ms = int(admin.time()[0]) * 1000
            for first in range(0, number, BATCH):
                names = range(first, min(first + BATCH, number))
                found: dict[Any, Any] = {
                    f"job-queue:in-process:gone-{each}": ago_ms - now_ms for each in names
                }
                admin.hset("job-queue:processors", mapping=found)
            admin.config_set("slowlog-log-slower-than", 0)
            admin.slowlog_reset()
            serving = jobqueue.aio.Server(
                f"redis://{server.host}:{server.port}/0", processor="alive", takeover=True
            )
            costs = Costs(admin)
            running = asyncio.create_task(serving.run(handle_signals=False))
            await asyncio.sleep(MEASURED_S)
            lines += costs.lines(f"{number:,} names {title}")
            left = int(admin.hlen("job-queue:processors")) - 1
            lines.append(f"{number:,} names {title}: {left:,} are left {MEASURED_S:g} s later")
            assert left == number or ago_ms > 3_600_000, "a name is forgotten before G"
            serving.stop()
            await running
            admin.delete("job-queue:processors")
    return lines
