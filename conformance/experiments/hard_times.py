"""Redis is full, holds all writes up, or has its clock set, for longer than a lease, and a server is killed in each.

A push may be refused then. But what Redis has accepted is answered: by another server where its own is gone.
"""

import asyncio
from collections.abc import Callable
from contextlib import closing

import jobqueue.aio
from jobqueue_conformance.redis_servers.shifted import ShiftedRedis
from redis import Redis

from experiments.fleet import L_S, Fleet, push, require_calm, told

LASTS_S = 1.5 * L_S
APART_S = 2.0  # for the servers to work in between
SHIFT_S = 10  # beyond the lease
TIMEOUT_S = 60.0  # of a call, beyond all faults of a round
EXPECTED = {"answered", "NotQueued", "ConnectionLost"}  # the last two say that a push failed


async def run(_binary: str, number: int) -> list[str]:
    """Go through all faults so many times, while jobs are pushed, then look at what is left."""
    with closing(ShiftedRedis()) as server:
        url = f"redis://{server.host}:{server.port}/0"
        admin = server.connect()
        fleet = Fleet(url)
        outcomes: dict[str, int] = {}
        ended = asyncio.Event()
        lines = []
        async with jobqueue.aio.Client(url, keep=TIMEOUT_S) as client:
            pushing = [
                asyncio.create_task(push(client, outcomes, ended, TIMEOUT_S)) for _ in range(4)
            ]
            for _ in range(number):
                for name, begin, end in _faults(server, admin):
                    before = outcomes.get("answered", 0)
                    begin()
                    await fleet.replace()
                    await asyncio.sleep(LASTS_S)
                    end()
                    await asyncio.sleep(APART_S)
                    lines.append(f"{name}: {outcomes['answered'] - before:,} answered meanwhile")
            ended.set()
            await asyncio.gather(*pushing)
        await require_calm(admin)
        await fleet.stop()
    unexpected = {how: count for how, count in outcomes.items() if how not in EXPECTED}
    assert not unexpected, f"{told(unexpected)}, of {sum(outcomes.values()):,} jobs"
    return [*lines, f"{told(outcomes)}; no list and no name left"]


def _faults(
    server: ShiftedRedis, admin: Redis
) -> list[tuple[str, Callable[[], object], Callable[[], object]]]:
    """Each with how it begins and how it ends."""
    pause_ms = int(LASTS_S * 1000)

    def full() -> None:
        admin.config_set("maxmemory", 1)

    def room() -> None:
        admin.config_set("maxmemory", 0)

    return [
        ("maxmemory", full, room),
        ("CLIENT PAUSE WRITE", lambda: admin.client_pause(pause_ms, all=False), lambda: None),
        ("CLIENT PAUSE ALL", lambda: admin.client_pause(pause_ms), lambda: None),
        ("a clock ahead", lambda: server.shift(SHIFT_S), lambda: server.shift(0)),
        ("a clock behind", lambda: server.shift(-SHIFT_S), lambda: server.shift(0)),
    ]
