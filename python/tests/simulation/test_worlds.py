"""A few hundred worlds keep every law; a core with a bug doesn't, and its failure is shrunk and told."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import pytest
from jobqueue.core import recovery, steps
from simulation import __main__ as command
from simulation import server as servers
from simulation.draws import LARGE_EVERY, draw
from simulation.plan import Client, Collect, Fault, Plan, Push, Server
from simulation.search import Counts, Failure, attempt, shrink, told
from simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobqueue.core.steps import Steps
    from jobqueue.protocol.messages import Answer, Dead

SEEDS = range(240)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Thousands of lost connections are not worth a line each."""
    caplog.set_level("CRITICAL", "jobqueue")


@pytest.mark.parametrize("part", range(4))
def test_worlds_keep_every_law(part: int) -> None:
    """server.recovery.*, client.lost.*: whatever fails, no job is lost, and no caller is forgotten."""
    counts = Counts()

    for seed in SEEDS[part::4]:
        failure = attempt(draw(seed), counts)
        assert failure is None, told(failure)

    assert counts.jobs > 500
    assert counts.faults.total() > 100


def test_a_world_of_hundreds_keeps_every_law() -> None:
    """Hundreds of servers and clients share one queue."""
    plan = draw(LARGE_EVERY - 1)
    assert len(plan.servers) + len(plan.clients) >= 200

    failure = attempt(plan)

    assert failure is None, told(failure)


def lines(world: World) -> list[str]:
    """The story of a world, without the times."""
    return [sentence.format(*values) for _, sentence, values in world.story]


def plan_of_kills(seed: int, lease: float) -> Plan:
    """Four servers with new names and little to do, of which two are killed for good while they have a job."""
    chance = random.Random(seed)
    servers = [
        Server(f"server-{each}", chance.choice((1, 3)), 1, lease / 4, takeover=True, fresh=True)
        for each in range(4)
    ]
    pushes = [Push(chance.uniform(0, 20), 1, "answer", None, None) for _ in range(30)]
    kills = [
        Fault("kill for good", server.name, chance.randint(1, 30), "busy steps", 0.0, (0, 0, 0))
        for server in servers[:2]
    ]
    clients = (Client("client", 1, tuple(pushes)),)
    return Plan(seed, tuple(servers), clients, tuple(kills), 3, lease, ends_without_redis=False)


def test_leases_may_lapse_while_redis_loads_its_data() -> None:
    """A Redis that was away for half a minute and loads its data for another finds no lease in it."""
    restart = Fault("restart", "redis", 0, "", 25.0, (30.0, 1.0, 0.0))
    server = Server("server", 1, 1, 2.0, takeover=True, fresh=True)
    client = Client("client", 1, (Push(0.0, 1, "answer", None, None),))
    plan = Plan(1, (server,), (client,), (restart,), 3, 8.0, ends_without_redis=False)

    failure = attempt(plan)

    assert failure is None, told(failure)


@pytest.mark.parametrize("lease", [2.0, 8.0])
def test_what_a_dead_server_leaves_runs_soon(lease: float) -> None:
    """Where a hand is free and nothing else fails, it is L + C + 1 s at most from a kill to the next run."""
    adoptions = 0

    for seed in range(20):
        world = World(plan_of_kills(seed, lease))
        world.run()
        adoptions += world.laws.owners.adoptions
        assert world.laws.owners.longest_rerun <= 2 * lease + 1

    assert adoptions > 10


def test_a_seed_decides_everything() -> None:
    """The same seed gives the same story, to the last microsecond; the next one, another."""

    def story(seed: int) -> list[str]:
        world = World(draw(seed))
        world.run()
        return [f"{at} {sentence.format(*values)}" for at, sentence, values in world.story]

    assert story(6) == story(6)
    assert story(6) != story(7)


def forgets_outcomes(entries: Iterable[bytes], _: Iterable[Answer | Dead]) -> list[bytes]:
    """A wrong look: what has run and isn't confirmed runs again."""
    return list(entries)


def test_what_is_kept_is_collected_by_handles() -> None:
    """client.kept.*: the worlds have kept results, callers who collect them, and some that come too late."""
    collected = kept = 0

    for seed in range(60):
        world = World(draw(seed))
        world.run()
        collected += world.laws.kept.collected
        kept += sum(job.stored_at is not None for job in world.laws.jobs.values())

    assert collected > 50
    assert kept > 500


def test_a_collector_that_comes_too_late_does_not_count_as_out_of_service() -> None:
    """Its timeout may pass while new jobs of its own are answered at rest."""
    collect = Collect(5.0, 55.0, delete=False)
    push = Push(30.0, 1, "answer", None, None, keep=0.5, collect=collect)
    server, client = Server("server", 1, 1, 1.0), Client("client", 1, (push,))
    world = World(Plan(0, (server,), (client,), (), 0, 0.0, ends_without_redis=False))

    world.run()

    assert "collector-1/1 is told no result came within the job's timeout" in lines(world)


def test_a_client_that_is_closed_reads_no_more() -> None:
    """The reply to its last PING is on its way."""
    client = Client("client", 1, (Push(1.0, 1, "answer", None, None),))
    world = World(Plan(0, (), (client,), (), 0, 0.0, ends_without_redis=False))
    while not world.story or world.story[-1][2][-1] != (b"PING",):
        world.clock.run(world.clock.now + 0.0001)

    world.clients[0].close()
    world.clock.run(world.clock.now + 10.0)

    assert lines(world)[-1].startswith("client/1 is told the client was closed")


def test_a_redis_whose_clock_is_set_back_tells_a_time_after_1970() -> None:
    """client.expiry.clock: a client asks for it, and pushes at once."""
    step = Fault("step clock", "redis", 0, "", 1.0, (8.0, 0.0, 0.0))
    client = Client("client", 1, (Push(2.0, 1, "answer", 5.0, None, expires=20.0),))
    server = Server("server", 1, 1, 1.0)
    world = World(Plan(0, (server,), (client,), (step,), 0, 0.0, ends_without_redis=False))

    world.run()

    assert "client/1 is told ['client', '1', 1]" in lines(world)


@pytest.mark.parametrize("ahead", [-3_600.0, 3_600.0])
def test_jobs_expire_by_the_clock_of_redis(ahead: float) -> None:
    """server.expiry.refuses, server.expiry.runs: whatever the clocks of servers and clients show."""
    push = Push(1.0, 50, "answer", None, None, expires=0.5)
    plan = Plan(
        seed=0,
        servers=(Server("server", 1, 1, 1.0),),
        clients=(Client("client", 1, (push,)),),
        faults=(),
        attempts=0,
        lease_seconds=0.0,
        ends_without_redis=False,
        clock_ahead=ahead,
    )
    world = World(plan)

    world.run()

    jobs = world.laws.jobs.values()
    at_ms = [job.expires_at_ms - ahead * 1_000 for job in jobs if job.expires_at_ms is not None]
    assert 1_499 <= min(at_ms) <= max(at_ms) < 1_520
    assert 0 < sum(job.runs.total() for job in jobs) < len(at_ms) == 50, "some run, some expire"
    assert all(job.settled for job in jobs)


def test_no_replica_is_left_where_redis_is_gone() -> None:
    """A client that stayed with the old primary is told of the loss; and the story of it can be told."""
    fail_over = Fault("fail over", "redis", 0, "", 5.0, (0.0, 0.0, 0.0))
    client = Client("client", 1, (Push(1.0, 1, "answer", None, None),))
    plan = Plan(0, (), (client,), (fail_over,), 0, 0.0, ends_without_redis=True)

    failure = attempt(plan)
    assert failure is None, told(failure)

    world = World(plan)
    world.run()
    assert "Redis is gone for good" in told(Failure(plan, "none", "it holds", world))


def test_a_step_that_is_not_simulated_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new step isn't answered as if it had been taken."""

    def goes_on(*_: object, **__: object) -> Steps[None]:
        yield steps.Sleep(1.0)
        yield "another step"  # type: ignore[misc]

    monkeypatch.setattr(servers, "run_with_reconnect", goes_on)
    server, client = Server("server", 1, 1, 1.0), Client("client", 1, ())

    failure = attempt(Plan(1, (server,), (client,), (), 0, 0.0, ends_without_redis=False))

    assert failure is not None
    assert failure.law == "takes known steps"


def first_failure(law: str) -> Plan:
    """The plan of the first seed that breaks the law."""
    for seed in range(2_000):
        failure = attempt(draw(seed))
        if failure is not None and failure.law == law:
            return failure.plan
    pytest.fail(f"no seed breaks {law}")


def test_a_failure_is_shrunk_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of a plan breaks the same law by one fault, and its story ends with that."""
    monkeypatch.setattr(recovery, "unfinished", forgets_outcomes)
    plan = first_failure("runs once in a life")
    failure = attempt(plan)
    assert failure is not None

    smallest = shrink(failure)

    assert smallest.law == "runs once in a life"
    assert len(smallest.plan.faults) == 1
    assert len(smallest.plan.servers) == 1
    assert sum(push.jobs for client in smallest.plan.clients for push in client.pushes) <= 10
    assert re.search(r"so it is broken: .* runs again in the same life$", told(smallest))


def test_the_command_repeats_a_failure_by_its_seed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make simulate SEED=…` tells the story and fails; a seed that keeps the laws is counted."""
    assert command.main(["--seed=1"]) == 0
    assert capsys.readouterr().out.startswith("1 worlds, ")

    monkeypatch.setattr(recovery, "unfinished", forgets_outcomes)
    seed = first_failure("runs once in a life").seed

    assert command.main([f"--seed={seed}"]) == 1
    assert f"make simulate SEED={seed}" in capsys.readouterr().out
