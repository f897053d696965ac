"""What a server adopts from the lists of processors that are gone: the feature `takeover`."""

import pytest
from redis import Redis

from jobqueue_conformance.peer.adoptions import adopted
from jobqueue_conformance.peer.observer import Observer
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.peer.registry import GONE, SCAN_S, Registry
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.events import COMMAND
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.verdicts import require

MOMENT_S = (
    0.3  # in which a server that adopts too much does so, long before a held command counts as lost
)
HANDLER_MS = 300
LONG_NAMES = ["x" * 60, "x" * 250, "x" * 1030]


@pytest.mark.requirement("server.takeover.adopts", "server.attempts.counts")
@pytest.mark.dimensions(
    size="8", occasion="recovery", settings="several handlers", moment="outstanding"
)
@pytest.mark.parametrize("hands", [1, 3])
def test_as_many_entries_are_adopted_as_hands_are_free(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    registry: Registry,
    keys: Keys,
    proxy: Proxy,
    hands: int,
) -> None:
    """With all handlers busy, the other entries of a lapsed list stay there; each entry is counted once."""
    jobs = [peer.job("echo", number) for number in range(12)]
    theirs = registry.lapsed(GONE, *jobs)
    hold = proxy.hold(lambda event: event.kind == COMMAND and is_answer(event.frame, jobs))

    server(concurrency=hands)
    adopted(peer, lambda: hold.event)
    more = proxy.notifier.happens_by_the_clock(lambda: redis.llen(theirs) < 12 - hands, MOMENT_S)
    left = redis.lrange(theirs, 0, -1)
    hold.release()
    adopted(peer, lambda: all(peer.received(job) for job in jobs))
    peer.wait_settled(*jobs)

    require(
        more is None and left == [job.message for job in reversed(jobs)][: len(left)],
        "server.takeover.adopts",
        expected=f"the youngest {12 - hands} on the list where they were",
        got=f"{len(left)} there",
    )
    counts = [redis.get(keys.count(job.message)) for job in jobs]
    require(
        counts == [b"1"] * 12,
        "server.attempts.counts",
        expected="a count of 1 for each of the 12 entries that were adopted",
        got=counts,
    )


@pytest.mark.requirement("server.attempts.alone", "server.takeover.adopts")
@pytest.mark.dimensions(settings="several handlers", moment="outstanding", handler="late")
def test_an_adopted_entry_that_was_counted_before_runs_alone(
    server: StartServer, peer: Peer, redis: Redis, registry: Registry, keys: Keys, proxy: Proxy
) -> None:
    """Beside an entry that another life had counted, no other entry that was adopted is started."""
    jobs = [peer.job("wait", {"ms": HANDLER_MS, "number": number}) for number in range(3)]
    for job in jobs:
        redis.set(keys.count(job.message), 1)
    registry.lapsed(GONE, *jobs)
    hold = proxy.hold(lambda event: event.kind == COMMAND and is_answer(event.frame, jobs))

    server(concurrency=3)
    adopted(peer, lambda: hold.event)
    # What was started together has run as long as this one, whose handler has ended.
    counts = [int(redis.get(keys.count(job.message)) or 0) for job in jobs]
    hold.release()

    require(
        sorted(counts) == [1, 1, 2],
        "server.attempts.alone",
        expected="one entry started, of three that were counted before",
        got=counts,
    )
    adopted(peer, lambda: all(peer.received(job) for job in jobs))
    peer.wait_settled(*jobs)


@pytest.mark.requirement("server.attempts.counts", "server.takeover.adopts")
@pytest.mark.dimensions(connection="cut", moment="outstanding", occasion="reconnect")
def test_an_entry_whose_adoption_is_lost_is_counted(
    server: StartServer, peer: Peer, redis: Redis, registry: Registry, keys: Keys, proxy: Proxy
) -> None:
    """An entry that was moved by a command whose reply is lost is answered, and counted once."""
    job = peer.job("echo", "lost on its way")
    theirs = registry.lapsed(GONE, job)

    hold = proxy.hold(matches.reply(job))
    server()
    adopted(peer, lambda: hold.event)
    while redis.llen(theirs):  # it has only read the entry
        following = proxy.hold(matches.reply(job))
        hold.release()
        hold = following
        adopted(peer, lambda: hold.event)  # noqa: B023 - asked in this turn only
    hold.drop()
    adopted(peer, lambda: peer.received(job))
    peer.wait_settled(job)

    counted = redis.get(keys.count(job.message))
    require(
        counted == b"1",
        "server.attempts.counts",
        expected="1 as the count of an adopted entry",
        got=counted,
    )


@pytest.mark.requirement("server.takeover.adopts")
@pytest.mark.dimensions(size="100", occasion="recovery", repetition="messages")
def test_entries_are_adopted_oldest_first(
    server: StartServer, peer: Peer, registry: Registry, observer: Observer
) -> None:
    """One handler answers hundreds of entries of a lapsed list, of which two are the same, in their order."""
    jobs = [peer.job("echo", number) for number in range(270)]
    registry.lapsed(GONE, *jobs, jobs[-1])

    server()
    adopted(peer, lambda: len(peer.received(jobs[-1])) == 2)
    order = [message.data for message in observer.messages]
    expected = [job.id.encode() for job in (*jobs, jobs[-1])]
    wrong = [
        at for at, (data, id_) in enumerate(zip(order, expected, strict=True)) if id_ not in data
    ]

    require(
        not wrong,
        "server.takeover.adopts",
        expected="answers in the order of the list",
        got=f"another one at {wrong[:5]}",
    )


@pytest.mark.requirement("server.takeover.adopts")
@pytest.mark.dimensions(connection="held", moment="outstanding", occasion="restart")
def test_an_adopted_entry_is_always_on_one_list(
    server: StartServer, peer: Peer, redis: Redis, registry: Registry, keys: Keys, proxy: Proxy
) -> None:
    """At each command and reply about it, an entry is on the lapsed list or on the adopter's, where it is answered."""
    job = peer.job("echo", "somewhere")
    theirs = registry.lapsed(GONE, job)
    own = keys.in_process()

    def about(event: object) -> bool:
        return theirs.encode() in event.arguments or event.carries(job.id)  # type: ignore[attr-defined] # an Event

    hold = proxy.hold(about)
    server()
    while True:
        adopted(peer, lambda: hold.event or peer.received(job))  # noqa: B023 - asked in this turn only
        if hold.event is None or peer.received(job):
            break
        places = {
            key: redis.lrange(key, 0, -1).count(job.message) for key in (keys.queue, theirs, own)
        }
        if peer.results(job):
            break
        answers = hold.event.kind == COMMAND and is_answer(hold.event.frame, [job])
        require(
            (places[theirs], places[own]) in ({(0, 1)} if answers else {(0, 1), (1, 0)})
            and not places[keys.queue],
            "server.takeover.adopts",
            expected="one copy on one of the two lists, and on the adopter's when it is answered",
            got=places,
        )
        following = proxy.hold(about)
        hold.release()
        hold = following
    proxy.forget(hold)
    hold.release()
    peer.wait_settled(job)


@pytest.mark.requirement("server.takeover.only-lapsed")
@pytest.mark.dimensions(connection="held", moment="outstanding", answer="nothing")
@pytest.mark.waits(3)
def test_a_lease_that_comes_in_between_stops_an_adoption(
    server: StartServer, peer: Peer, redis: Redis, registry: Registry, proxy: Proxy
) -> None:
    """Whichever command about its list the owner's lease comes before, an entry that isn't moved yet stays."""
    for number in range(20):
        owner = f"comes-back-{number}"
        job = peer.job("echo", number)
        theirs = registry.lapsed(owner, job)
        hold = proxy.hold(NthAbout(theirs, number + 1))
        server()
        adopted(peer, lambda: hold.event or peer.received(job))  # noqa: B023 - asked in this turn only
        moved = not redis.llen(theirs)
        if not moved:
            registry.lease(owner)
        hold.release()
        if moved:
            peer.wait_settled(job)
            break
        fence = peer.job("echo", "fence")
        registry.lapsed(f"fence-{number}", fence)
        adopted(peer, lambda: peer.received(fence))  # noqa: B023 - asked in this turn only
        require(
            redis.lrange(theirs, 0, -1) == [job.message],
            "server.takeover.only-lapsed",
            expected="the entry of an owner that has a lease where it was",
            got=redis.lrange(theirs, 0, -1),
        )
        peer.servers[-1].kill()


@pytest.mark.requirement("server.takeover.only-lapsed")
@pytest.mark.dimensions(connection="held", moment="outstanding", answer="another type")
def test_a_server_that_lost_its_own_lease_adopts_nothing(
    server: StartServer, peer: Peer, redis: Redis, registry: Registry, proxy: Proxy
) -> None:
    """Whichever command about the list another life's token comes before, an entry that isn't moved stays."""
    for number in range(20):
        processor = f"robbed-{number}"
        job = peer.job("echo", number)
        theirs = registry.lapsed(f"{GONE}-{number}", job)
        hold = proxy.hold(NthAbout(theirs, number + 1))
        started = server(processor)
        adopted(peer, lambda: hold.event or peer.received(job))  # noqa: B023 - asked in this turn only
        moved = not redis.llen(theirs)
        if not moved:
            registry.lease(processor)
        hold.release()
        if moved:
            peer.wait_settled(job)
            break
        peer.wait(
            lambda: not started.running or not redis.llen(theirs),  # noqa: B023 - asked in this turn only
            "server.takeover.lost-name",
            "an exit",
            patience_s=SCAN_S,
        )
        require(
            redis.lrange(theirs, 0, -1) == [job.message],
            "server.takeover.only-lapsed",
            expected="the entry where it was",
            got=redis.lrange(theirs, 0, -1),
        )
        redis.hdel(f"{theirs.partition(':in-process:')[0]}:processors", theirs)
        redis.delete(theirs)


@pytest.mark.requirement(
    "server.takeover.marked", "server.takeover.only-lapsed", "server.takeover.lease-first"
)
@pytest.mark.dimensions(size=("8", "100", "1,024"), occasion="again", settings="names")
def test_a_list_that_is_leased_again_is_left_alone(
    server: StartServer, peer: Peer, redis: Redis, registry: Registry
) -> None:
    """The entries of a list with a lease stay there, whatever its length of name and however old its mark is."""
    fence = peer.job("echo", "fence")
    jobs = {name: peer.job("echo", "of a living owner") for name in ("alive", *LONG_NAMES)}
    theirs = {name: registry.lapsed(name, job) for name, job in jobs.items()}
    for name in jobs:
        registry.lease(name)
    registry.lapsed(f"{LONG_NAMES[-1]}, but another one", fence)

    server(own := "y" * 120)
    adopted(peer, lambda: peer.received(fence))

    for name, job in jobs.items():
        left = redis.lrange(theirs[name], 0, -1)
        require(
            left == [job.message], "server.takeover.only-lapsed", expected="the entry", got=left
        )
    require(
        registry.holder(own) is not None,
        "server.takeover.lease-first",
        expected=f"a lease of {own!r:.100}",
        got="none",
    )


class NthAbout:
    """Matches the command with this number, counted from 1, that has the key as an argument."""

    def __init__(self, key: str, number: int) -> None:
        self._names = matches.command_naming(key)
        self._number = number
        self._seen = 0

    def __call__(self, event: object) -> bool:
        """Count the command, where it is one of those."""
        if self._names(event):  # type: ignore[arg-type] # an Event
            self._seen += 1
            return self._seen == self._number
        return False


def is_answer(frame: bytes, jobs: list[Job]) -> bool:
    """Whether a command publishes something about one of the jobs, or removes it."""
    return any(job.id.encode() in frame for job in jobs)
