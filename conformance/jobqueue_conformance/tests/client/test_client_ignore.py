"""What a client ignores: messages that are not valid results, and results of jobs that aren't its own."""

from typing import Any

import pytest

from jobqueue_conformance.peer.calls import guard_ms
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartClient
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.messages import written
from jobqueue_conformance.spec.vectors import message, vectors
from jobqueue_conformance.spec.verdicts import require

IGNORED = vectors("results", "ignored")
UNUSUAL = vectors("results", "either")
SENTINEL = "the result that settles"
TIMES = 12  # more often in a row than a client may have patience for
ERROR = {"code": "a.b", "message": "c"}
BOTH: list[dict[str, Any]] = [
    {"result": 1, "error": None},
    {"result": None, "error": ERROR},
    {"error": ERROR, "result": 1},
    {"error": False, "result": 1},
]


@pytest.mark.dimensions(occasion="again", answer="another type", repetition="faults")
@pytest.mark.parametrize(
    "requirement",
    [
        pytest.param(name, marks=pytest.mark.requirement(name))
        for name in sorted({vector["requirements"][0] for vector in IGNORED})
    ],
)
def test_what_settles_nothing_is_ignored(client: StartClient, peer: Peer, requirement: str) -> None:
    """What is not a valid result of an unsettled job is ignored, however often it comes; the next result settles it."""
    driver = client()

    for vector in IGNORED:
        if vector["requirements"][0] != requirement:
            continue
        seq = driver.submit("echo", vector["id"], timeout_ms=guard_ms())
        job = peer.claim()
        for _ in range(TIMES):
            peer.publish(job.channel, message(vector, job.id))
        peer.answer(job, result=SENTINEL)
        outcome = driver.outcome(seq)

        require(
            outcome.value == SENTINEL,
            requirement,
            expected=f"the result behind the vector {vector['id']}, {TIMES} times",
            got=outcome,
        )


@pytest.mark.requirement("client.ignore.malformed")
@pytest.mark.dimensions(occasion="again", answer="another type", repetition="faults")
def test_a_message_with_result_and_error_is_no_result(client: StartClient, peer: Peer) -> None:
    """A message that has both members settles nothing, even where one of them is null."""
    driver = client()
    for members in BOTH:
        seq = driver.submit("echo", members, timeout_ms=guard_ms())
        job = peer.claim()

        peer.publish(job.channel, written(id=job.id, **members))
        peer.answer(job, result=SENTINEL)
        outcome = driver.outcome(seq)

        require(
            outcome.value == SENTINEL,
            "client.ignore.malformed",
            expected=f"the result behind a message with {members}",
            got=outcome,
        )


@pytest.mark.requirement("client.ignore.malformed")
@pytest.mark.dimensions(occasion="again", answer="another type", repetition="faults")
def test_an_odd_message_for_nobody_is_survived(client: StartClient, peer: Peer) -> None:
    """A message outside the portable set that is for no job of the client's leaves it as it was."""
    driver = client()

    for vector in UNUSUAL:
        seq = driver.submit("echo", vector["id"], timeout_ms=guard_ms())
        job = peer.claim()
        peer.publish(job.channel, message(vector, "no-such-job"))
        peer.answer(job, result=SENTINEL)
        outcome = driver.outcome(seq)

        require(
            outcome.value == SENTINEL,
            "client.ignore.malformed",
            expected=f"the result behind the vector {vector['id']}",
            got=outcome,
        )


@pytest.mark.requirement("client.settle.once")
@pytest.mark.dimensions(occasion="again", answer="another type")
def test_an_odd_result_settles_once_at_most(client: StartClient, peer: Peer) -> None:
    """A result outside the portable set, such as one with a member twice, settles its job or is ignored."""
    driver = client()
    seqs = []

    for vector in UNUSUAL:
        if vector["id"].startswith("portable.depth."):
            continue  # not every driver can write such a value
        seqs.append(driver.submit("echo", vector["id"], timeout_ms=guard_ms()))
        job = peer.claim()
        peer.publish(job.channel, message(vector, job.id))
        peer.answer(job, result=SENTINEL)
        driver.outcome(seqs[-1])

    driver.close()
    counts = [len(driver.outcomes(seq)) for seq in seqs]
    require(
        set(counts) == {1},
        "client.settle.once",
        expected="one outcome for each job",
        got=[driver.outcomes(seq) for seq, count in zip(seqs, counts, strict=True) if count > 1],
    )


@pytest.mark.requirement("client.ignore.unknown")
@pytest.mark.dimensions(answer="another type")
def test_an_id_is_matched_character_for_character(client: StartClient, peer: Peer) -> None:
    """A result whose id differs from the job's in case or blanks alone isn't the job's."""
    driver = client()
    seq = driver.submit("echo", "matched", timeout_ms=guard_ms())
    job = peer.claim()
    alike = {job.id.upper(), job.id.lower(), job.id.title(), job.id.swapcase(), f"{job.id}.0"}
    alike |= {job.id[:-1], job.id[1:], f"0{job.id}", f"+{job.id}", f"{job.id}\n", f"\ufeff{job.id}"}
    alike |= {
        "__proto__",
        "constructor",
        "__class__",
        "null",
    }  # what objects have in some languages

    for other in alike - {job.id, ""}:
        peer.publish(job.channel, written(id=other, result=f"of {other!r}"))
    peer.answer(job, result=SENTINEL)
    outcome = driver.outcome(seq)

    require(
        outcome.value == SENTINEL,
        "client.ignore.unknown",
        expected=f"the result whose id is {job.id!r}",
        got=outcome,
    )


@pytest.mark.requirement("client.ignore.malformed")
@pytest.mark.dimensions(answer="another type")
def test_an_id_that_is_no_string_is_none(client: StartClient, peer: Peer) -> None:
    """A message whose id is a number, an array or an object with the job's id in it settles nothing."""
    driver = client()
    seq = driver.submit("echo", "no string", timeout_ms=guard_ms())
    job = peer.claim()

    number = [int(job.id)] if job.id.isdecimal() else []
    for other in (*number, [job.id], {"id": job.id}, {job.id: job.id}):
        peer.publish(job.channel, written(id=other, result=f"of {other!r}"))
    peer.answer(job, result=SENTINEL)
    outcome = driver.outcome(seq)

    require(
        outcome.value == SENTINEL,
        "client.ignore.malformed",
        expected=f"the result whose id is the string {job.id!r}",
        got=outcome,
    )


@pytest.mark.requirement("client.settle.result")
def test_only_the_jobs_own_channel_counts(client: StartClient, peer: Peer, keys: Keys) -> None:
    """A result with the job's id on another channel of the same queue settles nothing."""
    driver = client()
    seq = driver.submit("echo", "own channel", timeout_ms=guard_ms())
    job = peer.claim()

    for channel in (keys.channel(), keys.queue, f"{job.channel}x", job.channel[:-1]):
        peer.publish(channel, written(id=job.id, result=channel))
    peer.answer(job, result=SENTINEL)
    outcome = driver.outcome(seq)

    require(
        outcome.value == SENTINEL,
        "client.settle.result",
        expected=f"the result on {job.channel}",
        got=outcome,
    )
