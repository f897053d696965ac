"""By what a client settles a job, once and for all."""

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from redis import Redis

from jobqueue_conformance.peer.calls import guard_ms, let_time_out
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.client import ClientProcess, Outcome
from jobqueue_conformance.programs.starting import StartClient
from jobqueue_conformance.proxy.waiting import Notifier
from jobqueue_conformance.redis_servers.acl import EVERYTHING, PASSWORD, execute, set_user
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.messages import WIRE_CODES, equal, written
from jobqueue_conformance.spec.vectors import Vector, message, vectors
from jobqueue_conformance.spec.verdicts import require

SETTLING = vectors("results", "value", "error")
SENTINEL = "the result that settles"
USER = "somebody"
Change: TypeAlias = Callable[[RedisServer, str], object]
# How Redis is made to refuse a push, and how it is healed.
REFUSALS: dict[str, tuple[Change, Change]] = {
    "WRONGTYPE": (
        lambda server, queue: execute(server, "SET", queue, "no list"),
        lambda server, queue: execute(server, "DEL", queue),
    ),
    "OOM": (
        lambda server, _: execute(server, "CONFIG", "SET", "maxmemory", "1"),
        lambda server, _: execute(server, "CONFIG", "SET", "maxmemory", "0"),
    ),
    "NOPERM": (
        lambda server, _: set_user(server, USER, PASSWORD, "-lpush"),
        lambda server, _: set_user(server, USER, PASSWORD, "+lpush"),
    ),
}


def as_told(vector: Vector, outcome: Outcome) -> bool:
    """Whether the job was settled as the vector says."""
    if vector["outcome"] == "value":
        return outcome.kind == "result" and equal(outcome.value, vector["value"])
    expected = vector["error"]
    same = (outcome.code, outcome.message) == (expected["code"], expected["message"])
    return outcome.kind == "error" and same and equal(outcome.data, expected.get("data"))


def cases(*listed: Vector) -> list[Any]:
    """One case for each set of requirements that the vectors name."""
    named = sorted({tuple(vector["requirements"]) for vector in listed})
    return [pytest.param(each, marks=pytest.mark.requirement(*each), id=each[0]) for each in named]


@pytest.mark.dimensions(occasion="again", answer=("error", "another type"), handler="chosen error")
@pytest.mark.parametrize("requirements", cases(*SETTLING))
def test_a_job_is_settled_as_its_vector_tells(
    client: StartClient, peer: Peer, requirements: tuple[str, ...]
) -> None:
    """Each result of the fixtures settles its job by the value or the error that it carries."""
    listed = [vector for vector in SETTLING if tuple(vector["requirements"]) == requirements]
    driver = client()

    for vector in listed:
        seq = driver.submit("echo", vector["id"], timeout_ms=guard_ms())
        job = peer.claim()
        peer.publish(job.channel, message(vector, job.id))
        outcome = driver.outcome(seq)

        require(
            outcome.kind != "timeout",
            requirements[0],
            expected=f"the job settled by the vector {vector['id']}",
            got=outcome,
        )
        require(
            as_told(vector, outcome),
            requirements[-1],
            expected=f"the outcome of the vector {vector['id']}: {message(vector, job.id)!r:.200}",
            got=outcome,
        )


@pytest.mark.requirement("client.settle.error", "client.settle.result")
@pytest.mark.dimensions(occasion="again", answer=("error", "another error"), handler="exception")
def test_every_registered_code_settles(client: StartClient, peer: Peer) -> None:
    """An error with a code of the registry settles its job, as the first result does."""
    driver = client()
    for code in sorted(WIRE_CODES):
        seq = driver.submit("echo", code, timeout_ms=guard_ms())
        job = peer.claim()

        peer.answer(job, error={"code": code, "message": "text"})
        peer.publish(job.channel, written(id=job.id, result="too late"))
        outcome = driver.outcome(seq)

        require(
            outcome.kind == "error",
            "client.settle.result",
            expected=f"the error {code}",
            got=outcome,
        )
        require(
            (outcome.code, outcome.message) == (code, "text"),
            "client.settle.error",
            expected=f"the error {code} as it came",
            got=outcome,
        )


@pytest.mark.requirement("client.settle.result", "client.settle.once")
@pytest.mark.dimensions(occasion="again", answer=("error", "another error"), repetition="ids")
def test_the_first_of_several_results_settles(client: StartClient, peer: Peer) -> None:
    """Of several results with the job's id, the first one settles it, and the job isn't settled again."""
    driver = client()
    seqs = []

    for number in range(10):
        seqs.append(driver.submit("echo", number, timeout_ms=guard_ms()))
        job = peer.claim()
        first: dict[str, Any] = {"result": number}
        if number % 2:
            first = {"error": {"code": "a.b", "message": f"{number}"}}
        for outcome in (
            first,
            {"result": "second"},
            {"error": {"code": "a.c", "message": "third"}},
        ):
            peer.publish(job.channel, written(id=job.id, **outcome))
        settled = driver.outcome(seqs[-1])
        require(
            settled.message == f"{number}" if number % 2 else settled.value == number,
            "client.settle.result",
            expected=f"{first} for the job {number}",
            got=settled,
        )

    require_settled_once(driver, seqs)


@pytest.mark.requirement("client.settle.once")
@pytest.mark.dimensions(
    occasion="again", answer="error", handler="late", caller="timeout", repetition="faults"
)
def test_late_results_settle_nothing_again(
    client: StartClient, peer: Peer, notifier: Notifier
) -> None:
    """A value and an error that come after the timeout change nothing that was settled."""
    driver = client()
    seqs = []

    for number in range(3):
        seq, late, _ = let_time_out(driver, peer, notifier, number)
        peer.publish(late.channel, written(id=late.id, result="late"))
        seqs += [seq, driver.submit("echo", "in time", timeout_ms=guard_ms())]
        job = peer.claim()
        peer.publish(late.channel, written(id=late.id, error={"code": "a.b", "message": "late"}))
        peer.answer(job, result=SENTINEL)
        outcome = driver.outcome(seqs[-1])
        require(
            outcome.value == SENTINEL,
            "client.ignore.unknown",
            expected="the job's own result, not the late one of another",
            got=outcome,
        )

    require_settled_once(driver, seqs)


@pytest.mark.requirement("client.settle.not-queued", "client.push.once")
@pytest.mark.dimensions(
    occasion="again",
    answer=("error", "another error"),
    settings="rights",
    caller=("timeout", "no timeout"),
    repetition="faults",
)
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refused_push_is_not_queued(
    client: StartClient,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    keys: Keys,
    refusal: str,
) -> None:
    """A job whose push Redis refuses is settled as not-queued, and isn't pushed later."""
    refuse, heal = REFUSALS[refusal]
    set_user(redis_server, USER, PASSWORD, *EVERYTHING)
    driver = client(user=USER, password=PASSWORD)
    seqs = [settle(driver, peer)]

    for timed in (False, True):
        refuse(redis_server, keys.queue)
        seqs.append(driver.submit("echo", "refused", timeout_ms=guard_ms() if timed else None))
        outcome = driver.outcome(seqs[-1])
        heal(redis_server, keys.queue)

        require(
            (outcome.kind, outcome.code) == ("error", "not-queued"),
            "client.settle.not-queued",
            expected=f"the error not-queued where Redis answers {refusal}",
            got=outcome,
        )
        seqs.append(settle(driver, peer))
    require(
        not redis.exists(keys.queue),
        "client.push.once",
        expected="a refused job pushed no more",
        got=redis.lrange(keys.queue, 0, -1),
    )
    require_settled_once(driver, seqs)


def settle(driver: ClientProcess, peer: Peer) -> int:
    """Have a job pushed, answered and settled."""
    seq = driver.submit("echo", "good")
    job = peer.claim()
    require(job.parameters == "good", "client.push.once", expected="the new job", got=job.message)
    peer.answer(job, result=SENTINEL)
    driver.outcome(seq)
    return seq


def require_settled_once(driver: ClientProcess, seqs: list[int]) -> None:
    """After its input has ended, the driver has written one outcome for each job."""
    driver.close()
    counts = {seq: len(driver.outcomes(seq)) for seq in seqs}
    require(
        set(counts.values()) == {1},
        "client.settle.once",
        expected="one outcome for each job",
        got={seq: driver.outcomes(seq) for seq, count in counts.items() if count != 1},
    )
