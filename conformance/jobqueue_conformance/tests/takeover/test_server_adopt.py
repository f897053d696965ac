"""What a server adopts from the lists of processors that are gone: the feature `takeover`."""

import pytest
from redis import Redis

from jobqueue_conformance.peer.observer import Observer
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.peer.registry import FOREIGN, GONE, SCAN_S, Registry
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
HOUR_S = 3600
LONG_LEASE_MS = 30_000
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


@pytest.mark.requirement("server.takeover.marked", "server.takeover.scans")
@pytest.mark.dimensions(occasion=("again", "recovery"), answer="another type", size="2³¹")
@pytest.mark.parametrize(
    "value", ["0", "nan", "abc", "", "0x10", "1e3", "-0", "9" * 40, "-" + "9" * 40, " 1"]
)
@pytest.mark.waits(3)
def test_a_list_is_marked_before_anybody_adopts(
    server: StartServer, peer: Peer, redis: Redis, registry: Registry, value: str
) -> None:
    """A list without a lease and without a valid mark is marked, and its entries stay; C later, they are adopted."""
    job, fence = peer.job("echo", "not marked"), peer.job("echo", "fence")
    theirs = registry.register(GONE, job, value=value)
    registry.lapsed("fence", fence)

    server()
    marked(peer, lambda: peer.received(fence))
    marked(peer, lambda: registry.marked(theirs) or peer.received(job))
    require(
        redis.lrange(theirs, 0, -1) == [job.message] and registry.marked(theirs),
        "server.takeover.marked",
        expected="a mark of now, and the entry where it was",
        got=(registry.value(theirs), redis.lrange(theirs, 0, -1)),
    )

    registry.lapsed(GONE)
    marked(peer, lambda: peer.received(job))
    peer.wait_settled(job)


@pytest.mark.requirement("server.takeover.marked")
@pytest.mark.dimensions(moment="after the second look", answer="nothing")
def test_a_mark_of_less_than_c_ago_is_too_young(
    server: StartServer, peer: Peer, redis: Redis, registry: Registry
) -> None:
    """While another list is adopted from, the entries of a list that was marked a moment ago stay there."""
    job, fence = peer.job("echo", "too young"), peer.job("echo", "fence")
    theirs = registry.lapsed(GONE, job, ago_s=-60.0)  # a clock that was stepped back
    youngest = registry.lapsed("youngest", peer.job("echo", "youngest"), ago_s=0.0)
    registry.lapsed("fence", fence)

    server(lease_ms=LONG_LEASE_MS)  # so that C doesn't pass meanwhile
    adopted(peer, lambda: peer.received(fence))

    left = [redis.llen(theirs), redis.llen(youngest)]
    require(left == [1, 1], "server.takeover.marked", expected="both entries left", got=left)


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


@pytest.mark.requirement("server.takeover.first", "server.takeover.scans")
@pytest.mark.dimensions(size="8", occasion="restart", settings="names")
def test_what_is_due_at_the_start_is_adopted_before_the_queue(
    server: StartServer, peer: Peer, registry: Registry, keys: Keys, observer: Observer
) -> None:
    """Entries of twelve lapsed lists, whatever form their names have, are answered before the jobs of the queue."""
    queued = [peer.push("echo", number) for number in range(100)]
    due = [peer.job("echo", f"due {number}") for number in range(24)]
    registry.lapsed(GONE, *due[:12])
    for number, job in enumerate(due[12:]):
        registry.lapsed(f"another-{number}", job)
    registry.rename("another-0", f"{keys.queue}:configured as a whole")

    server()
    peer.result(queued[-1])
    order = [message.data for message in observer.messages][: len(due)]
    early = [data for data in order if not any(job.id.encode() in data for job in due)]

    require(
        not early,
        "server.takeover.first",
        expected="the answers of the lapsed lists first",
        got=f"{len(early)} of the first {len(due)} were of the queue",
    )


@pytest.mark.requirement("server.takeover.first", "server.takeover.scans")
@pytest.mark.dimensions(moment="outstanding", handler="late", occasion="again")
@pytest.mark.waits(3)
def test_a_busy_server_adopts_before_its_next_claim(
    server: StartServer, peer: Peer, registry: Registry
) -> None:
    """What comes due while a handler runs is answered before the jobs that have to wait for longer than 2 L."""
    server()
    queued = [peer.push("wait", {"ms": 200, "number": number}) for number in range(60)]
    peer.result(queued[0])
    job = peer.job("echo", "due")
    registry.lapsed(GONE, job)

    adopted(peer, lambda: peer.received(job) or peer.received(queued[-1]), "server.takeover.scans")
    answered = sum(bool(peer.received(each)) for each in queued)

    require(
        bool(peer.received(job)) and answered < len(queued),
        "server.takeover.first",
        expected="the adopted entry answered among those that are queued",
        got=f"{answered} of the queue before it",
    )


@pytest.mark.requirement("server.takeover.scans")
@pytest.mark.dimensions(
    occasion="again", moment="after the second look", answer="another type", repetition="faults"
)
@pytest.mark.waits(9)
def test_an_idle_server_scans_again_and_again(
    server: StartServer, peer: Peer, redis: Redis, registry: Registry, keys: Keys
) -> None:
    """An idle server adopts what came due after its start, and after that, although another one seems to scan."""
    started = server()
    for number, lasts_s in enumerate((1, HOUR_S, None)):
        started.wait_idle()
        redis.set(f"{keys.queue}:scanned", FOREIGN, ex=lasts_s)
        job = peer.job("echo", number)
        registry.lapsed(f"{GONE}-{number}", job)

        adopted(peer, lambda: peer.received(job), "server.takeover.scans")  # noqa: B023 - asked in this turn only


@pytest.mark.requirement("server.takeover.late")
@pytest.mark.dimensions(size=("2³¹", "8"), occasion="again", repetition="faults")
@pytest.mark.parametrize("ago_s", [60.0, 86_400.0, 30 * 86_400.0])
@pytest.mark.waits(3)
def test_what_lands_on_an_emptied_list_is_adopted(
    server: StartServer, peer: Peer, registry: Registry, ago_s: float
) -> None:
    """Entries of a list that was found empty a minute, a day or a month ago are run, and so is a later one."""
    jobs = [peer.job("echo", number) for number in range(12)]
    registry.emptied(GONE, *jobs, ago_s=ago_s)

    server()
    adopted(peer, lambda: all(peer.received(job) for job in jobs), "server.takeover.late")
    later = peer.job("echo", "later")
    registry.emptied(GONE, later, ago_s=ago_s)

    adopted(peer, lambda: peer.received(later), "server.takeover.late")
    peer.wait_settled(*jobs, later)


@pytest.mark.requirement("server.takeover.prunes", "server.takeover.scans")
@pytest.mark.dimensions(size=("100", "1,024"), occasion="again", moment="after the second look")
@pytest.mark.waits(3)
def test_a_registration_is_removed_after_g_and_not_earlier(
    server: StartServer, peer: Peer, registry: Registry, redis: Redis, keys: Keys
) -> None:
    """Of many empty lists, those that were found empty G ago are forgotten, and no others; used ones stay, too.

    A scan goes through all that stay: whatever is due among thousands of them is adopted.
    """
    old = [registry.emptied(f"old-{number}", ago_s=3601.0) for number in range(600)]
    young = [keys.in_process(f"young-{number}") for number in range(2500)]
    emptied_ms = -(registry.now_ms() - 3_500_000)
    redis.hset(keys.processors, mapping=dict.fromkeys(young, str(emptied_ms)))
    lapsed = registry.lapsed("lapsed", ago_s=7200.0)
    jobs = [peer.job("echo", number) for number in range(12)]
    due = [registry.lapsed(f"due-{number}", job) for number, job in enumerate(jobs)]
    alive = registry.register("alive")
    registry.lease("alive")

    server()
    adopted(peer, lambda: all(peer.received(job) for job in jobs), "server.takeover.scans")
    pruned(peer, lambda: not any(map(registry.value, old)))
    fence = registry.emptied("fence", ago_s=3601.0)
    pruned(peer, lambda: registry.value(fence) is None)
    left = set(map(text, redis.hkeys(keys.processors)))

    wanted = {*young, *due, lapsed, alive, keys.in_process()}
    require(left == wanted, "server.takeover.prunes", expected="the others", got=wanted ^ left)
    value = registry.value(lapsed) or b""
    require(
        value.startswith(b"-"),
        "server.takeover.prunes",
        expected="the lapsed list found empty now",
        got=value,
    )


@pytest.mark.requirement("server.takeover.ignores")
@pytest.mark.dimensions(settings="names", answer=("error", "another type"), occasion="again")
@pytest.mark.waits(9)
def test_registrations_of_other_things_are_ignored(
    server: StartServer, peer: Peer, registry: Registry, redis: Redis, keys: Keys
) -> None:
    """The queue, the dead list, its own list and foreign keys are left alone; what Redis refuses is skipped."""
    long_ago = registry.now_ms() - 600_000
    dead, foreign = peer.job("echo", "dead"), peer.job("echo", "foreign")
    other = f"{keys.queue}-other:in-process:x"
    wrong = keys.in_process("of-another-type")
    redis.lpush(keys.dead, dead.message)
    redis.lpush(other, foreign.message)
    redis.set(wrong, "no list")
    ignored = (keys.queue, keys.dead, other, f" {keys.queue}:in-process:x", "")
    for key in ignored:
        redis.hset(keys.processors, key, long_ago)
    for value in (long_ago, -long_ago, 0):
        redis.hset(keys.processors, wrong, value)
        fence = peer.job("echo", value)
        registry.lapsed(f"fence-{value}", fence)
        server()
        redis.hset(keys.processors, keys.in_process(), long_ago)
        adopted(peer, lambda: peer.received(fence), "server.takeover.ignores")  # noqa: B023 - asked in this turn only
        following = peer.job("echo", "following")
        registry.lapsed(f"following-{value}", following)
        adopted(peer, lambda: peer.received(following), "server.takeover.ignores")  # noqa: B023 - asked in this turn only
        require(
            [redis.hget(keys.processors, key) for key in ignored] == [b"%d" % long_ago] * 5
            and redis.lrange(keys.dead, 0, -1) == [dead.message]
            and redis.lrange(other, 0, -1) == [foreign.message]
            and peer.servers[-1].running,
            "server.takeover.ignores",
            expected="registrations and lists as they were",
            got=[redis.hget(keys.processors, key) for key in ignored],
        )
        peer.servers[-1].kill()


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


def text(key: bytes | str) -> str:
    """A key of Redis."""
    return key.decode() if isinstance(key, bytes) else key


def is_answer(frame: bytes, jobs: list[Job]) -> bool:
    """Whether a command publishes something about one of the jobs, or removes it."""
    return any(job.id.encode() in frame for job in jobs)


def adopted(peer: Peer, look: object, requirement: str = "server.takeover.adopts") -> object:
    """Wait for what an adoption brings about; a scan may be as far away as the protocol allows."""
    return peer.wait(look, requirement, "an adoption", patience_s=SCAN_S)  # type: ignore[arg-type] # a lambda


def marked(peer: Peer, look: object) -> object:
    """Wait for what a scan brings about on a list that wasn't marked."""
    return adopted(peer, look, "server.takeover.marked")


def pruned(peer: Peer, look: object) -> object:
    """Wait for what a scan brings about on a list that is empty."""
    return adopted(peer, look, "server.takeover.prunes")
