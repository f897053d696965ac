"""What an operator does to a queue, on a real Redis."""

import shlex
from pathlib import Path

import pytest
from jobqueue import admin
from jobqueue.protocol import keys
from jobqueue.protocol.leases import State
from redis import Redis, ResponseError

SPEC = Path(__file__).parents[2] / "spec" / "protocol.md"
HOSTILE = [
    b"",
    b"\x00\xff\xfe no UTF-8",
    b"\x1b[31mred\x1b[0m\r\n",
    "\ufeff{}".encode(),
    b"[bold]markup[/bold]",
    b'{"channel": "c", "id": "1", "method": "echo"}',
]


def register(redis: Redis, **values: bytes) -> None:
    """Write in-process lists into the registry."""
    for name, value in values.items():
        redis.hset("job-queue:processors", f"job-queue:in-process:{name}", value)


def test_status_counts_every_list_of_the_queue(redis: Redis) -> None:
    """The status counts the queue, each in-process list, the bare one too, and the dead list."""
    redis.lpush("job-queue", "a", "b", "c")
    redis.lpush("job-queue:in-process:web-1", "d", "e")
    redis.lpush("job-queue:in-process", "f")
    redis.lpush("job-queue:dead", "g")

    status = admin.status(redis)

    lists = {"job-queue:in-process": 1, "job-queue:in-process:web-1": 2}
    states = dict.fromkeys(lists, State("unregistered"))
    assert status == admin.Status("job-queue", waiting=3, in_process=lists, dead=1, states=states)


def test_status_tells_which_servers_are_alive(redis: Redis) -> None:
    """By the lease first, whatever the registry says; marks by the clock of Redis."""
    hour = 3_600_000
    seconds, microseconds = redis.time()
    now = seconds * 1000 + microseconds // 1000
    register(
        redis,
        alive=b"0",
        alive_again=b"%d" % (now - hour),
        alive_after_empty=b"-%d" % (now - hour),
        gone=b"0",
        lapsed=b"%d" % (now - hour),
        emptied=b"-%d" % (now - 2 * hour),
        late=b"%d" % (now + 100 * hour),
        nonsense=b"nan",
        digits=b"9" * 40,
    )
    for name in ("alive", "alive_again", "alive_after_empty", "unregistered_alive"):
        redis.set(f"job-queue:lease:job-queue:in-process:{name}", "token", px=hour)
    for name in ("alive", "lapsed", "unregistered", "unregistered_alive"):
        redis.lpush(f"job-queue:in-process:{name}", "job")

    status = admin.status(redis)

    states = {key.rpartition(":")[2]: state for key, state in status.states.items()}
    passed = {name: each.seconds for name, each in states.items() if each.seconds is not None}
    assert {name: each.name for name, each in states.items()} == {
        "alive": "alive",
        "alive_again": "alive",
        "alive_after_empty": "alive",
        "gone": "lapsed",
        "lapsed": "lapsed",
        "emptied": "emptied",
        "late": "lapsed",
        "nonsense": "lapsed",
        "digits": "lapsed",
        "unregistered": "unregistered",
        "unregistered_alive": "alive",
    }
    assert passed.keys() == {"lapsed", "emptied"}
    assert 3600 <= passed["lapsed"] < 7200 <= passed["emptied"] < 10800
    assert status.in_process.keys() == status.states.keys()
    assert (status.in_process["job-queue:in-process:gone"], status.remark) == (0, "")


def test_status_survives_what_anybody_may_register(redis: Redis) -> None:
    """Keys of no list, of other queues, or of the queue itself are left out, as servers do."""
    redis.hset("job-queue:processors", "job-queue:own-key", "0")
    for key in ("job-queue", "job-queue:dead", "other:in-process:web-1", "job-queue:text", b"\xff"):
        redis.hset("job-queue:processors", key, "0")
    redis.hset("job-queue:processors", b"job-queue:in-process:\xff", "0")
    redis.set("job-queue:text", "no list")

    status = admin.status(redis)

    assert status.in_process == {"job-queue:own-key": 0, "job-queue:in-process:\udcff": 0}
    assert status.states.keys() == status.in_process.keys()


def test_status_counts_beside_a_registry_of_another_type(redis: Redis) -> None:
    """The lists are counted, and the remark has Redis's own word for it."""
    redis.set("job-queue:processors", "no hash")
    redis.lpush("job-queue:in-process:web-1", "a")

    status = admin.status(redis)

    assert status.in_process == {"job-queue:in-process:web-1": 1}
    assert status.states == {"job-queue:in-process:web-1": State("unknown")}
    assert "WRONGTYPE" in status.remark
    assert "ACL" not in status.remark


def test_the_states_leave_no_trace_on_a_list(redis: Redis) -> None:
    """No command that counts as an access of a list is sent."""
    register(redis, one=b"0", two=b"-1")
    redis.lpush("job-queue:in-process:one", "a")
    redis.config_resetstat()

    admin.list_states(redis)

    sent = {name.partition("_")[2] for name in redis.info("commandstats")}
    assert sent - {"config|resetstat"} == {"scan", "hscan", "type", "exists", "time"}


def test_status_takes_a_queue_by_its_name_and_not_as_a_pattern(redis: Redis) -> None:
    """A queue whose name holds glob characters finds its own lists, and no neighbour's."""
    queue = r"a*[b]?\c"
    redis.lpush(f"{queue}:in-process:web-1", "own")
    redis.lpush(r"aX[b]Y\c:in-process:web-1", "of a queue that a glob matches")
    redis.lpush(f"{queue}:in-process-2:web-1", "of a queue with a longer name")
    redis.set(f"{queue}:in-process:text", "no list")

    assert admin.status(redis, queue).in_process == {f"{queue}:in-process:web-1": 1}


def test_status_gets_by_with_the_acl_of_the_spec(redis: Redis, redis_url: str) -> None:
    """The user that section 12 gives for `status` can count; it can't read a message."""
    # The password is the one that the spec's example has.
    block = SPEC.read_text().partition("```acl status\n")[2].partition("```")[0]
    redis.execute_command(*shlex.split(block))  # type: ignore[no-untyped-call]
    redis.lpush("job-queue:in-process:web-1", "a")

    with Redis.from_url(redis_url, username="jobqueue-status", password="secret") as user:
        status = admin.status(user)
        with pytest.raises(ResponseError, match="no permissions"):
            user.lrange("job-queue", 0, -1)

    assert status.in_process == {"job-queue:in-process:web-1": 1}
    assert status.states == {"job-queue:in-process:web-1": State("unregistered")}
    assert not status.remark


@pytest.mark.parametrize("missing", ["hscan", "exists", "time"])
def test_status_counts_for_a_user_who_may_not_ask_for_states(
    redis: Redis, redis_url: str, missing: str
) -> None:
    """The remark names the permission and where it is written; the counts are all there."""
    block = SPEC.read_text().partition("```acl status\n")[2].partition("```")[0]
    redis.execute_command(*shlex.split(block), f"-{missing}")  # type: ignore[no-untyped-call]
    redis.lpush("job-queue", "a", "b")
    redis.lpush("job-queue:in-process:web-1", "c")
    register(redis, other=b"0")

    with Redis.from_url(redis_url, username="jobqueue-status", password="secret") as user:
        status = admin.status(user)

    assert (status.waiting, status.in_process) == (2, {"job-queue:in-process:web-1": 1})
    assert status.states == {"job-queue:in-process:web-1": State("unknown")}
    assert f"'{missing}'" in status.remark
    assert "section 12" in status.remark


def test_requeue_lets_the_oldest_out_first(redis: Redis) -> None:
    """Requeued entries go before what waits, in the order in which they had been claimed."""
    redis.lpush("job-queue", "1", "2", "3", "4", "5")
    for _ in range(3):
        redis.lmove("job-queue", "job-queue:in-process:web-1", "RIGHT", "LEFT")

    moved = admin.requeue(redis, "job-queue:in-process:web-1")

    served = redis.rpop("job-queue", 10)
    assert (moved, served) == (3, [b"1", b"2", b"3", b"4", b"5"])
    assert not redis.exists("job-queue:in-process:web-1")


def test_requeue_of_nothing_moves_nothing(redis: Redis) -> None:
    """A list that isn't there has no entries, and the queue stays as it is."""
    redis.lpush("job-queue", "1")

    assert admin.requeue(redis, "job-queue:in-process:web-1") == 0
    assert redis.lrange("job-queue", 0, -1) == [b"1"]


def test_requeue_that_fails_leaves_every_entry(redis: Redis) -> None:
    """Where the queue's key holds no list, the entries stay on the in-process list."""
    redis.set("job-queue", "no list")
    redis.lpush("job-queue:in-process:web-1", "1", "2")

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        admin.requeue(redis, "job-queue:in-process:web-1")

    assert redis.lrange("job-queue:in-process:web-1", 0, -1) == [b"2", b"1"]


def test_dead_messages_come_oldest_first(redis: Redis) -> None:
    """Messages that die while the list is read neither hide one nor show one twice."""
    expected = [b"%d" % number for number in range(250)]
    redis.lpush("job-queue:dead", *expected)

    read = []
    for each in admin.dead_messages(redis):
        read.append(each.message)
        if len(read) < len(expected):
            redis.lpush("job-queue:dead", "later")

    assert read[: len(expected)] == expected


def test_a_dead_message_is_named_by_its_bytes(redis: Redis) -> None:
    """Equal messages share a name, others don't, and removing one renames none."""
    redis.lpush("job-queue:dead", "a", "b", "a")
    first = [each.name for each in admin.dead_messages(redis)]

    admin.drop_dead(redis, {first[1]})

    assert first[0] == first[2] != first[1]
    assert [each.name for each in admin.dead_messages(redis)] == [first[0], first[0]]


@pytest.mark.parametrize(
    "message,reason",
    [
        (b"\xff", "$ is not valid UTF-8: invalid start byte at 0"),
        (b"[]", "$ must be an object"),
        (b'{"channel": "c"}', "$.id must be a non-empty string"),
        (
            b'{"channel": "c", "id": "1", "method": "echo"}',
            "it was given up, or the server may not publish on its channel",
        ),
    ],
)
def test_a_dead_message_says_why(message: bytes, reason: str) -> None:
    """The reason is the one for which a server moves the message to the dead list."""
    assert admin.DeadMessage(message).reason == reason


@pytest.mark.parametrize("message", HOSTILE)
def test_dead_bytes_are_requeued_exactly(redis: Redis, message: bytes) -> None:
    """A requeued message has the same bytes as before, and waits behind the others."""
    redis.lpush("job-queue:dead", "other", message)
    redis.lpush("job-queue", "waiting")

    moved = admin.requeue_dead(redis, {admin.DeadMessage(message).name})

    assert moved == 1
    assert redis.lrange("job-queue", 0, -1) == [message, b"waiting"]
    assert redis.lrange("job-queue:dead", 0, -1) == [b"other"]


@pytest.mark.parametrize("named", [True, False])
def test_requeueing_forgets_the_attempts(redis: Redis, *, named: bool) -> None:
    """A job that was given up may run again; the attempts of other messages stay."""
    redis.lpush("job-queue:dead", "given up")
    for message in (b"given up", b"other"):
        redis.set(keys.attempts(b"job-queue", message), 4)
    (dead,) = admin.dead_messages(redis)

    assert admin.requeue_dead(redis, [dead.name] if named else None) == 1
    assert redis.keys("job-queue:attempts:*") == [keys.attempts(b"job-queue", b"other")]


def test_requeueing_all_dead_messages_keeps_their_order(redis: Redis) -> None:
    """All messages go to the queue, the oldest to be claimed first."""
    redis.lpush("job-queue:dead", *HOSTILE)

    assert admin.requeue_dead(redis, None) == len(HOSTILE)
    assert redis.rpop("job-queue", len(HOSTILE)) == HOSTILE
    assert admin.status(redis).dead == 0


def test_a_name_stands_for_all_copies(redis: Redis) -> None:
    """Every copy of a named message is moved or deleted."""
    redis.lpush("job-queue:dead", "a", "b", "a", "c", "c")
    a, c = (admin.DeadMessage(message).name for message in (b"a", b"c"))

    assert admin.requeue_dead(redis, {a}) == 2
    assert admin.drop_dead(redis, {c}) == 2
    assert redis.lrange("job-queue", 0, -1) == [b"a", b"a"]
    assert redis.lrange("job-queue:dead", 0, -1) == [b"b"]


def test_a_message_that_somebody_else_took_is_not_pushed(redis: Redis) -> None:
    """Of two operators who requeue one message at the same time, one pushes it."""

    class TakenMeanwhile(frozenset[str]):
        def __contains__(self, name: object) -> bool:
            redis.delete("job-queue:dead")
            return super().__contains__(name)

    redis.lpush("job-queue:dead", "a")

    assert admin.requeue_dead(redis, TakenMeanwhile({admin.DeadMessage(b"a").name})) == 0
    assert not redis.exists("job-queue")


def test_dropping_all_dead_messages_counts_them(redis: Redis) -> None:
    """All messages are deleted, once."""
    redis.lpush("job-queue:dead", *HOSTILE)

    assert admin.drop_dead(redis, None) == len(HOSTILE)
    assert admin.drop_dead(redis, None) == 0
