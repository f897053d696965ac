"""What is late at an end, an old primary that serves on, two hosts with one name, and servers of two queues."""

from __future__ import annotations

import random

import pytest
from jobqueue.core import steps
from jobqueue.protocol import commands
from jobqueue.protocol.keys import Keys
from simulation.draws import draw
from simulation.names import QUEUE, SECOND
from simulation.network import Connection
from simulation.plan import Client, Fault, Plan, Push, Server
from simulation.redis_process import RedisProcess
from simulation.search import attempt, told
from simulation.sent import kinds_of
from simulation.store import Store
from simulation.world import World

LEASE = 2.0
TAKES_OVER = Server("server", 1, 1, 0.5, takeover=True)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Thousands of lost connections are not worth a line each."""
    caplog.set_level("CRITICAL", "jobqueue")


def world_of(
    servers: tuple[Server, ...], clients: tuple[Client, ...], *faults: Fault, attempts: int = 3
) -> World:
    """A world that has kept every law."""
    plan = Plan(1, servers, clients, faults, attempts, LEASE, ends_without_redis=False)
    failure = attempt(plan)
    assert failure is None, told(failure)
    world = World(plan)
    world.run()
    return world


def lines(world: World) -> list[str]:
    """The story of a world, without the times."""
    return [sentence.format(*values) for _, sentence, values in world.story]


def steady(queue: bytes = QUEUE) -> Client:
    """A client that pushes a job each half second."""
    pushes = tuple(Push(0.5 * each, 1, "answer", None, None) for each in range(40))
    return Client(f"client-{queue.decode()}", 1, pushes, queue)


def test_a_fault_meets_the_step_that_it_names() -> None:
    """`be late` at what a server sends last: so its next life begins before that arrives."""
    late = Fault("be late", "server", 1, "ends", 0.0, (5.0, 0.0, 0.0))
    stop = Fault("stop", "server", 9, "steps", 0.0, (0.1, 0.0, 0.0))

    world = world_of((TAKES_OVER,), (steady(),), late, stop)

    told = [line for line in lines(world) if "FAULT" in line or "has ended" in line]
    assert [line.split(" server")[0][6:] for line in told[:2]] == ["stop", "be late"]
    assert told[2] == "server (life 1) has ended: it was stopped or killed"


def test_what_a_dead_server_has_sent_arrives_later() -> None:
    """Its claim moves a job seconds after its death, and the next life finds it."""
    late = Fault("kill late", "server", 3, "claims", 3.0, (0.1, 0.0, 4.0))
    server = TAKES_OVER._replace(fresh=True)
    world = world_of((server,), (steady(),), late)

    moved = [line for line in lines(world) if "sends too late" in line and "BLMOVE" in line]

    assert len(moved) == 1
    assert world.laws.owners.adoptions >= 1


def test_an_old_primary_serves_on_for_those_who_are_connected_and_forgets() -> None:
    """A push is accepted there and is lost; so its caller is told of the loss of its connection."""
    part = Fault("part", "redis", 0, "", 5.0, (4.0, 0.0, 0.0))
    world = world_of((TAKES_OVER,), (steady(),), part)

    jobs = world.laws.jobs.values()
    ran_there = [job for job in jobs if job.runs and job.restored and job.accepted_at == 0.0]

    assert "The old primary is demoted, and has lost what it has accepted since" in lines(world)
    assert len(ran_there) > 3
    assert not world.redis.forgets
    assert sum(job.published for job in jobs if not job.restored) > 10


def test_one_of_two_servers_with_one_name_waits_for_the_lease() -> None:
    """The first one stands still for longer than L, loses its name to the other host, and ends."""
    twin = TAKES_OVER._replace(name="twin", twin="server")
    pause = Fault("pause", "server", 40, "steps", 0.0, (3 * LEASE, 0.0, 0.0))
    world = world_of((TAKES_OVER, twin), (steady(),), pause)

    ended = [line for line in lines(world) if "has ended: another server has taken over" in line]

    assert ended


@pytest.mark.parametrize("seed", [3, 5, 6, 7, 8])
def test_two_hosts_with_one_name_may_share_a_list_when_the_clock_of_redis_leaps(seed: int) -> None:
    """A lease that lapses too early is taken by the other one, and the first can't know it before it renews."""
    twin = TAKES_OVER._replace(name="twin", twin="server")
    pushes = tuple(Push(0.05 * each, 1, "answer", None, None) for each in range(300))
    leap = Fault("step clock", "redis", 0, "", 5.0, (0.5, 0.9, 0.0))
    servers, clients = (TAKES_OVER, twin), (Client("client", 1, pushes),)

    failure = attempt(Plan(seed, servers, clients, (leap,), 3, 4 * LEASE, ends_without_redis=False))

    assert failure is None, told(failure)


@pytest.mark.parametrize("order", ["fair", "priority"])
@pytest.mark.parametrize("hands", [1, 3])
def test_a_server_of_two_queues_answers_both(order: str, hands: int) -> None:
    """Its two queues share the hands, and each has its own list, lease and registry."""
    server = Server("server", hands, 1, 0.5, takeover=True, shares=order)  # type: ignore[arg-type]
    kill = Fault("kill", "server", 3, "busy steps", 5.0, (0.1, 0.0, 0.0))

    world = world_of((server,), (steady(), steady(SECOND)), kill)

    for queue in (QUEUE, SECOND):
        jobs = [job for job in world.laws.jobs.values() if job.queue == queue]
        assert sum(job.published > 0 for job in jobs) >= 40


@pytest.mark.parametrize("seed", range(6))
def test_each_of_two_hosts_may_have_the_lease_of_one_queue(seed: int) -> None:
    """The queue whose lease a server has is served, and a stop ends, although the other one waits for ever."""
    server = TAKES_OVER._replace(shares="fair")
    twin = server._replace(name="twin", twin="server")
    clients = (steady(), steady(SECOND))

    failure = attempt(Plan(seed, (server, twin), clients, (), 3, LEASE, ends_without_redis=False))

    assert failure is None, told(failure)


@pytest.mark.parametrize("seed, stops", [(6, "server"), (10, "twin")])
def test_who_has_given_up_a_lease_may_lose_it(seed: int, stops: str) -> None:
    """Another host may take the lease of one queue while the process drains the other queue."""
    server = Server("server", 12, 2, 2 / 3, takeover=True, shares="fair")
    twin = server._replace(name="twin", twin="server")
    stop = Fault("stop", stops, seed, "claims", 0.0, (5.0, 0.0, 0.0))

    failure = attempt(Plan(seed, (server, twin), (), (stop,), 3, LEASE, ends_without_redis=False))

    assert failure is None, told(failure)


def test_a_server_of_two_queues_may_release_one_lease_late() -> None:
    """Its process drains the other queue still, so the late release isn't of an earlier life."""
    server = Server("server", 2, 5, 0.3, takeover=True, shares="fair")
    stop = Fault("stop", "server", 60, "steps", 0.0, (5.0, 0.0, 0.0))
    late = Fault("be late", "server", 1, "ends", 0.0, (0.1, 0.0, 0.0))
    slow = Client("slow", 1, tuple(Push(0.2 * each, 9, "answer", None, None) for each in range(30)))

    for seed in range(8):
        plan = Plan(seed, (server,), (slow,), (stop, late), 3, LEASE, ends_without_redis=False)
        failure = attempt(plan)
        assert failure is None, told(failure)


class Notes(RedisProcess):
    """A Redis that notes what it receives."""

    def __init__(self, world: World) -> None:
        super().__init__(world.clock, world.laws, Store())
        self.received: list[tuple[bytes, ...]] = []

    def receive(self, _: Connection, commands: list[tuple[bytes, ...]]) -> None:
        """Note it."""
        self.received += commands


def test_nothing_arrives_behind_a_write_that_was_cut() -> None:
    """Not late, either: Redis would take the rest for something else."""
    world = World(Plan(1, (), (steady(),), (), 0, 0.0, ends_without_redis=False))
    redis = Notes(world)
    connection = Connection(world.clock, random.Random(1), redis, world.clients[0])

    connection.cut_next_write(0.5, 5.0)
    connection.write([(b"MULTI",), (b"EXEC",)])
    connection.be_late(1.0)
    connection.write([(b"MULTI",), (b"EXEC",)])
    world.clock.run(10.0)

    assert redis.received == [(b"MULTI",)]


def test_what_is_given_back_is_no_claim() -> None:
    """It moves a job the other way, and may do so after a stop, and when the lease has ended."""
    keys = Keys.of("r", "server")
    given = next(commands.give_back(keys))
    claim = next(commands.claim(keys, 1))

    assert kinds_of(steps.Exchange(given, 1)) == {"writes"}
    assert kinds_of(steps.Exchange(claim, 1)) == {"writes", "claims"}


def test_a_stored_result_is_found_before_it_is_published() -> None:
    """client.kept.looks: it was stored, and the connection lost; so nobody has published it yet."""
    push = Push(1.0, 1, "kill", None, None, keep=60.0)
    client = Client("client", 2, (push, Push(3.0, 1, "answer", None, None)))
    cut = Fault("cut", "server", 2, "ends", 0.0, (0.0, 0.0, 0.0))
    world = world_of((TAKES_OVER,), (client,), cut, attempts=1)

    (job,) = [each for each in world.laws.jobs.values() if each.keep]

    stored, published = job.results[:2]
    assert stored[0] < published[0]
    assert stored[1] == published[1]


def test_the_seeds_have_all_of_these() -> None:
    """Some draw two queues, some a name twice, and a third of those with takeover a schedule."""
    plans = [draw(seed) for seed in range(300)]
    able = [plan for plan in plans if any(each.takeover for each in plan.servers)]

    assert sum(any(each.shares for each in plan.servers) for plan in plans) > 30
    assert sum(any(each.twin for each in plan.servers) for plan in plans) > 10
    named = [{fault.counts for fault in plan.faults} for plan in able]
    assert sum(bool(each & {"claims", "adoptions", "ends"}) for each in named) > len(able) / 3
