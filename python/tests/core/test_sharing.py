"""One server of several queues in virtual time: who is next, and what no fault may lose."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue.core.lease import Lapsed, Lease
from jobqueue.core.sharing import Seat, Sharing, Turns
from jobqueue.core.steps import (
    Connect,
    Exchange,
    Jitter,
    Moment,
    Now,
    Pause,
    Rest,
    Room,
    Running,
    Sleep,
    Start,
    Step,
    Steps,
    Take,
    TimedExchange,
    Turn,
    Unreachable,
)
from jobqueue.core.takeover import Takeover
from jobqueue.protocol import keys, leases

from tests.core.several import World
from tests.core.test_parallel import KEYS, LOOK, LOST, Adopting, at, counted, follow

if TYPE_CHECKING:
    from jobqueue.core.sharing import Order

    from tests.core.several import Queue


def messages(queue: Queue, count: int, first: int = 0) -> list[bytes]:
    """Jobs of a queue."""
    return [b"%b:%d" % (queue.name, number) for number in range(first, first + count)]


ORDERS: list[Order] = ["fair", "priority"]


@pytest.mark.parametrize("hands", [1, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_fair_means_level(seed: int, hands: int) -> None:
    """Of two full queues, neither has finished more than the hands and one job more than the other."""
    world = World(seed, "fair", queues=2, hands=hands)
    one, two = world.queues
    ahead = []
    world.finished = lambda _: ahead.append(abs(len(one.finished) - len(two.finished)))
    for queue in world.queues:
        queue.push(*messages(queue, 200))
    world.begin()

    world.clock.run(60)

    assert len(one.finished) == len(two.finished) == 200
    assert max(ahead) <= hands + 1
    world.end()


@pytest.mark.parametrize("seed", range(5))
def test_who_was_idle_has_no_claim_to_more(seed: int) -> None:
    """A queue that gets jobs late is level with one that has worked for long, from then on."""
    world = World(seed, "fair", queues=2, hands=2)
    busy, late = world.queues
    busy.push(*messages(busy, 400))
    world.begin()
    world.clock.run(3)
    before = len(busy.finished)
    assert before > 20
    ahead: list[int] = []
    world.finished = lambda _: ahead.append(len(late.finished) - len(busy.finished) + before)

    late.push(*messages(late, 50))
    while len(late.finished) < 50:
        world.clock.run(world.clock.now + 0.1)

    assert len(busy.finished) < 400
    assert max(ahead) <= 2 + 1
    world.end()


@pytest.mark.parametrize("hands", [1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_a_high_job_starts_next_but_one(seed: int, hands: int) -> None:
    """Behind a thousand low jobs, a high one is overtaken by one that was claimed already, for each hand."""
    world = World(seed, "priority", queues=2, hands=hands)
    world.slow = 0.0001
    world.work_seconds = lambda: 0.02 + 0.01 * world.random.random()  # type: ignore[method-assign]
    high, low = world.queues
    low.push(*messages(low, 1_000))
    world.begin()
    world.clock.run(2 + world.random.random())
    started = len(low.started)
    assert 50 < started < 900

    high.push(*messages(high, 1))
    while not high.started:
        world.clock.run(world.clock.now + 0.0001)

    assert len(low.started) - started <= hands
    world.end()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", range(9))
def test_without_faults_each_job_runs_once_and_in_order(seed: int, order: Order) -> None:
    """server.claim.order: what is returned isn't overtaken; and every hand is free at the end."""
    world = World(seed, order, queues=3, hands=world_hands(seed))
    world.begin()
    for turn in range(60):
        queue = world.random.choice(world.queues)
        queue.push(*messages(queue, world.random.choice([1, 1, 5]), 10 * turn))
        world.clock.run(world.clock.now + 0.5 * world.random.random() ** 4)
    world.clock.run(world.clock.now + 60)

    done = [each for queue in world.queues for each in queue.started]
    assert Counter(done) == Counter(world.pushed)
    for queue in world.queues:
        assert queue.started == [each for each in world.pushed if each.startswith(queue.name)]
        assert len(queue.blocked) == 1, "nobody waits for the next job"
    assert world.taken_without_turn > 0
    world.end()


def world_hands(seed: int) -> int:
    """How many hands the server of a seed has."""
    return 1 + seed % 3


def test_what_was_never_counted_runs_beside_another_queues() -> None:
    """server.attempts.alone: otherwise one long job of a former life would hold up all queues."""
    world = World(0, "fair", queues=2, hands=2)
    for queue in world.queues:
        left = messages(queue, 1, 1_000)
        world.suspects[left[0]] = False
        world.execute((b"LPUSH", queue.keys.in_process, *left))
    world.work_seconds = lambda: 10.0  # type: ignore[method-assign]
    world.begin()

    world.clock.run(5)

    assert world.beside == 1
    world.end()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", range(24))
def test_no_fault_loses_a_job(seed: int, order: Order) -> None:
    """server.recovery.first, for each queue: whatever connection is lost, every job is run."""
    world = World(seed, order, queues=3, hands=world_hands(seed))
    for queue in world.queues[1:]:
        left = messages(queue, 3, 1_000)
        world.execute((b"LPUSH", queue.keys.in_process, *left))
        for each in left:
            world.suspects[each] = counted = world.random.random() < 0.3
            if counted:
                world.execute((b"INCR", keys.attempts(queue.name, each)))
    world.begin()
    for turn in range(60):
        queue = world.random.choice(world.queues)
        queue.push(*messages(queue, world.random.choice([1, 1, 5]), 10 * turn))
        victim = world.random.choice(world.queues)
        session = victim.claiming if world.random.random() < 0.7 else victim.confirming
        if world.random.random() < 0.4:
            session.lose()
        world.clock.run(world.clock.now + 0.5 * world.random.random() ** 4)
    world.clock.run(world.clock.now + 60)

    for queue in world.queues:
        theirs = [each for each in world.pushed if each.startswith(queue.name)]
        assert set(theirs) <= set(queue.finished), "a job was lost"
        assert world.store.entries(queue.keys.in_process) == []
    assert world.suspects.keys() <= {each for queue in world.queues for each in queue.finished}
    world.end()


def test_a_job_that_comes_when_no_hand_is_free_is_returned() -> None:
    """It goes back to the end where it was claimed, before any that came later."""
    world = World(0, "fair", queues=2, hands=1)
    world.work_seconds = lambda: 30.0  # type: ignore[method-assign]
    one, two = world.queues
    world.begin()
    world.clock.run(1)
    one.push(*messages(one, 1))
    world.clock.run(1.5)

    two.push(*messages(two, 2))
    world.clock.run(1.6)

    assert world.returned == 1
    assert two.started == []
    assert world.store.entries(two.keys.queue) == [b"q1:1", b"q1:0"]
    assert world.store.entries(two.keys.in_process) == []
    world.end()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("hands", [1, 2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_a_queue_whose_redis_is_away_keeps_no_hand(seed: int, hands: int, order: Order) -> None:
    """server.publish.again: the other one is served meanwhile; and each job of the first runs once."""
    world = World(seed, order, queues=2, hands=hands)
    world.slow = 0.0001
    away, other = world.queues
    away.push(*messages(away, hands))
    world.begin()
    while len(away.started) < hands:
        world.clock.run(world.clock.now + 0.0001)
    away.leave()
    away.push(*messages(away, 20, hands))
    other.push(*messages(other, 50))

    world.clock.run(30)

    assert len(other.finished) == 50
    assert away.running.total() == hands
    away.away = False
    other.push(*messages(other, 20, 50))
    world.clock.run(90)
    assert Counter(away.finished) == Counter(messages(away, 20 + hands))
    assert len(other.finished) == 70
    world.end()


def seats(hands: int) -> tuple[Turns, Seat, Seat]:
    """Two queues: the first has used all hands, and lent those of `a`, whose handler has ended."""
    turns = Turns(2, hands, "fair")
    one, two = turns.seats
    two.rest()
    one.ask(hands)
    assert one.granted() == hands
    one.start([b"a", *[b"b"] * (hands - 1)])
    one.ended(b"a")
    one.release()
    return turns, one, two


def test_only_the_hand_of_a_handler_that_has_ended_is_lent() -> None:
    """It is lent once, and what is confirmed later frees only what was not lent."""
    turns, one, two = seats(2)
    assert turns.free == 1
    one.release()
    assert turns.free == 1

    one.done([b"b"])
    assert turns.free == 2
    one.done([b"a"])
    assert turns.free == 2
    two.ask(2)
    assert two.granted() == 2


def test_who_has_lent_its_hands_gets_none_before_they_are_confirmed() -> None:
    """server.concurrency.limit: neither by its turn nor for a job that comes without; others do."""
    turns, one, two = seats(1)
    one.ask(1)
    assert one.granted() == 0
    assert not one.take()
    for number in range(10):
        two.ask(1)
        assert two.granted() == 1
        two.start([b"%d" % number])
        two.done([b"%d" % number])

    one.done([b"a"])
    assert one.granted() == 1
    assert one.taken >= two.taken - 1, "it has missed nothing"
    assert turns.free == 0


ANY = Turn(3, suspect=False, alone=False)
ONE = Turn(1, suspect=False, alone=False)
ALONE = Turn(1, suspect=True, alone=True)
MOVE = (b"q", b"q:in-process:p", b"RIGHT", b"LEFT")
GIVE_BACK = Exchange([(b"LMOVE", b"q:in-process:p", b"q", b"LEFT", b"RIGHT")], 1)
BEGIN: list[tuple[Any, Any]] = [
    *[(Connect(), None), at(0.0), (ANY, 3), at(0.0), (Running(), [])],
    (LOOK, [[]]),
]
ASKED: list[tuple[Any, Any]] = [(ANY, 3), at(0.1)]


def ask(hands: int) -> TimedExchange:
    """A claim that doesn't wait."""
    return TimedExchange([(b"LMOVE", *MOVE)] * hands, hands)


def wait(block: bytes = b"2.000") -> TimedExchange:
    """A claim that waits without a hand."""
    return TimedExchange([(b"BLMOVE", *MOVE, block)], 1)


def count(message: bytes, before: int) -> tuple[Any, Any]:
    """It is looked up how often an entry was counted."""
    return Exchange([(b"GET", keys.attempts(b"q", message))], 1), [b"%d" % before]


def sharing(takeover: Takeover | None = None) -> Steps[None]:
    """The claims of one of several queues, whose server has three hands."""
    limits: dict[str, Any] = {"concurrency": 3, "prefetch": 1, "block_seconds": 2.0}
    return Sharing(KEYS, **limits, attempts=3, takeover=takeover).claiming()


def test_it_claims_for_the_hands_that_are_kept_and_then_waits_without() -> None:
    """A claim that finds nothing is followed by one that waits, up to the next look."""
    left = follow(
        sharing(),
        *[
            *BEGIN,
            (ANY, 2),
            at(0.1),
            (ask(2), [b"a", None]),
            (Start([b"a"]), None),
        ],
        *[
            (ANY, 1),
            at(4.5),
            (ask(1), [None]),
            (Start([]), None),
            (Rest(), None),
        ],
        *[at(4.5), (wait(b"0.500"), [b"b"]), (Take(), True), (Start([b"b"]), None)],
    )

    assert left == ANY


def test_what_comes_when_no_hand_is_free_is_given_back() -> None:
    """It goes to the end from which it was claimed, in one move, and the queue competes again."""
    left = follow(
        sharing(),
        *[*BEGIN, *ASKED, (ask(3), [None] * 3), (Start([]), None), (Rest(), None), at(0.1)],
        *[(wait(), [b"b"]), (Take(), False), (GIVE_BACK, [b"b"])],
    )

    assert left == ANY


@pytest.mark.parametrize(
    "moment", [at(0.2, stopping=True), at(5.0)], ids=["a stop", "a look that is due"]
)
def test_it_waits_for_no_job_when_something_else_is_due(moment: tuple[Any, Any]) -> None:
    """server.stop.no-claim, server.recovery.stray: the second claim is decided on by itself."""
    left = follow(
        sharing(),
        *[*BEGIN, *ASKED, (ask(3), [None] * 3), (Start([]), None), (Rest(), None), moment],
    )

    assert left == ANY


def test_a_stop_looks_for_what_a_lost_claim_has_moved() -> None:
    """server.stop.drains: T after the loss the list is read once more; what it holds is started."""
    left = follow(
        sharing(),
        *[*BEGIN, *ASKED, (ask(3), [None] * 3), (Start([]), None), (Rest(), None), at(0.1)],
        *[(wait(), LOST), (Rest(), None), at(1.0), (Jitter(), 1.0), (Pause(0.02), None)],
        *[(Connect(), None), at(1.0), (ANY, 3), at(1.0), (Running(), [])],
        *[(LOOK, [[]]), (ANY, 3), at(1.5, stopping=True), (Rest(), None)],
        *[(Sleep(1.5), None), at(3.0, stopping=True), (Running(), []), (LOOK, [[b"a"]])],
        *[(Rest(), None), at(3.0, stopping=True), (Jitter(), 1.0), (Sleep(0.04), None)],
        *[(Connect(), None), at(3.0, stopping=True), (ANY, 3), at(3.0, stopping=True)],
        *[(Running(), []), (LOOK, [[b"a"]])],
        *[(ONE, 1), at(3.0, stopping=True), (Start([b"a"]), None)],
        *[(ANY, 3), at(3.1, stopping=True), (Room(1), 1)],
    )

    assert left is None


def test_a_lost_connection_gives_back_the_hands_first() -> None:
    """Otherwise the other queues would wait for its back-off; and so does a Redis that is away."""
    session = sharing()
    absent = Unreachable("there is no Redis")
    follow(
        session,
        *[*BEGIN, *ASKED, (ask(3), LOST), (Rest(), None), at(1.0), (Jitter(), 1.0)],
        *[(Pause(0.02), None), (Connect(), absent), (Rest(), None), at(9.0, stopping=True)],
    )

    with pytest.raises(Unreachable):
        session.send(1)  # `Room(1)`: Redis may be reachable when the last handler ends


def test_an_adopted_suspect_waits_for_its_turn() -> None:
    """server.attempts.alone: it is asked for by itself, and waits while another one runs alone."""
    left = follow(
        sharing(Adopting(b"", b"a", b"b")),
        *[*BEGIN, (ANY, 3), at(0.1), (ANY, 3), at(0.1)],
        *[count(b"a", 1), (ALONE, 1), at(0.1), (Running(), []), *counted(b"a", 1)],
        *[(ANY, 2), at(0.2), count(b"b", 1), (ALONE, 1), at(0.2)],
        *[(Running(), [b"a"]), (Room(1), 1), count(b"b", 1), (ALONE, 1), at(0.3)],
        *[(Running(), []), *counted(b"b", 1)],
    )

    assert left == ANY


def test_a_stop_while_it_waits_for_its_lease_ends_it() -> None:
    """server.takeover.waits: nothing was claimed, and nothing is looked at."""
    takeover = Adopting()
    takeover.stopped = True

    assert follow(sharing(takeover), (Connect(), None), at(0.0)) is None


def test_the_others_go_first_while_it_waits_for_its_lease() -> None:
    """server.takeover.waits: it may wait for ever, where another host has a server of its name."""
    lease = Lease(KEYS, b"mine", seconds=8.0, block_seconds=2.0)
    acquire = Exchange(next(leases.acquire(KEYS, b"mine", 8_000)), 4)
    acquiring: list[tuple[Any, Any]] = [at(0.0), (acquire, [None, b"theirs", 8_000, 0])]

    left = follow(
        sharing(Takeover(KEYS, lease)),
        *[(Connect(), None), at(0.0), *acquiring, (Rest(), None), (Pause(0.5), None), *acquiring],
    )

    assert left == Pause(0.5)


class Lapsing(Takeover):
    """A takeover whose lease has lapsed as soon as something is to be started."""

    def __init__(self) -> None:
        super().__init__(KEYS)
        self.lapsed = False

    def check_now(self, generation: int) -> Steps[None]:
        """Refuse."""
        yield from super().check_now(generation)
        if self.lapsed:
            raise Lapsed("it has lapsed")


@pytest.mark.parametrize("free", [True, False])
def test_a_job_whose_lease_has_lapsed_is_neither_started_nor_given_back(free: bool) -> None:
    """server.takeover.lapse: another server may have it, and the next look tells."""
    takeover = Lapsing()
    session = sharing(takeover)
    waits: list[tuple[Any, Any]] = [*BEGIN, *ASKED, (ask(3), [None] * 3), (Start([]), None)]
    step: Step | None = follow(session, *waits, (Rest(), None), at(0.1))
    assert step == wait()

    assert session.send(([b"b"], Moment(0.1, stopping=False))) == Take()
    takeover.lapsed = True
    assert session.send(free) == Rest()
    assert session.send(None) == Now()
