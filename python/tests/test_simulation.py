"""Thousands of small worlds in virtual time: whatever is lost, no job is. A failure names its seed."""

from __future__ import annotations

import math
from functools import partial

import pytest

from tests.simulation import KEYS, World

SEEDS = range(1_000)
JOBS = 6
STOP_SECONDS = 30.0  # what server.stop.unreachable allows


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Thousands of lost connections are not worth a line each."""
    caplog.set_level("CRITICAL", "jobqueue")


def push_jobs(world: World) -> list[bytes]:
    """Push jobs at times that the seed chooses; each one is named by its number."""
    jobs = [b"job-%d" % number for number in range(JOBS)]
    for job in jobs:
        world.at(world.chance.uniform(0, 6), partial(world.push, job))
    return jobs


def left(world: World, key: bytes) -> list[bytes]:
    """The entries of a list."""
    return world.redis.lists.get(key, [])


def storm(world: World) -> None:
    """Have Redis be away or refuse, and the server be killed and started again."""
    chance = world.chance
    for fault in ("away", "refuses"):
        if chance.random() < 0.3:
            begin = chance.uniform(0.1, 8)
            world.inject(fault, begin, begin + chance.uniform(0, 4))
    if chance.random() < 0.3:
        world.at(chance.uniform(0, 8), world.restart)


@pytest.mark.parametrize("part", range(4))
def test_no_job_is_lost_by_any_fault(part: int) -> None:
    """server.recovery.*: each job is answered, none is left, and none runs twice in one life."""
    for seed in SEEDS[part::4]:
        world = World(seed, faults=4)
        jobs = push_jobs(world)
        world.start()
        storm(world)

        world.run_until(12.0)
        world.faults = 0
        while world.lives[-1].ended:  # it found no Redis at its start
            world.start()
        world.run_until(60.0)

        where = f"seed {seed}"
        answered = all(world.redis.published[job] for job in jobs)
        assert answered, f"{where}: expected every job to be answered"
        assert not left(world, KEYS.queue), f"{where}: expected an empty queue"
        assert not left(world, KEYS.in_process), f"{where}: expected nothing on the list"
        for life in world.lives:
            twice = [job for job, runs in life.runs.items() if runs > 1]
            assert not twice, f"{where}: expected no job to run twice in one life, but {twice} did"


def test_without_a_fault_everything_happens_once() -> None:
    """server.publish.once: each job runs once and is answered once."""
    for seed in SEEDS[:400]:
        world = World(seed, faults=0)
        jobs = push_jobs(world)
        world.start()

        world.run_until(40.0)

        once = dict.fromkeys(jobs, 1)
        assert (dict(world.ran), dict(world.redis.published)) == (once, once), f"seed {seed}"


def test_a_stop_ends_and_leaves_nothing_that_it_claimed() -> None:
    """server.stop.drains, server.stop.unreachable: whatever is lost before and after the request."""
    for seed in SEEDS:
        world = World(
            seed, faults=3, late=False
        )  # a stop doesn't wait for claims that arrive after T
        push_jobs(world)
        life = world.start()
        if world.chance.random() < 0.3:
            fault = world.chance.choice(["away", "refuses"])
            world.inject(fault, world.chance.uniform(0.1, 8), math.inf)
        world.run_until(world.chance.uniform(0.2, 8))
        busy = 3.0 * JOBS  # handlers that run one after the other

        life.stop()
        world.run_until(world.now + busy + STOP_SECONDS)

        assert life.ended, f"seed {seed}: expected the stop to end"
        if life.sessions[0].error is None and not any(each.error for each in life.sessions):
            claimed = left(world, KEYS.in_process)
            assert not claimed, f"seed {seed}: expected a drained list, but {claimed} are left"


def test_a_job_that_kills_is_given_up_and_takes_none_with_it() -> None:
    """server.attempts.*: at most four runs, one answer; its neighbours are answered and not buried."""
    for seed in SEEDS:
        world = World(seed, faults=2, late=False)  # a late INCR counts once more
        jobs = push_jobs(world)
        killer = world.chance.choice(jobs)
        world.killers = {killer}
        world.start()

        world.run_until(90.0)

        where = f"seed {seed}"
        assert set(left(world, KEYS.dead)) == {killer}, (
            f"{where}: expected the killer to be given up"
        )
        assert world.ran[killer] <= 4, f"{where}: expected no fifth run"
        answered = all(world.redis.published[job] for job in jobs)
        assert answered, f"{where}: expected every job to be answered"
        assert not left(world, KEYS.queue), f"{where}: expected an empty queue"
        assert not left(world, KEYS.in_process), f"{where}: expected nothing on the list"
