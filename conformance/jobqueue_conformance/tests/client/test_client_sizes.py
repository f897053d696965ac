"""Sizes beyond every round number that a client might have a limit at, up to what is portable."""

import random
from collections import Counter

import pytest

from jobqueue_conformance.peer.calls import guard_ms
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartClient
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.proxy.waiting import Notifier
from jobqueue_conformance.spec.messages import Job, equal, written
from jobqueue_conformance.spec.verdicts import require

IN_PIECES = "in pieces " * 300
LIMITS = (100, 256, 1000, 1024, 4096, 8192, 1 << 14, 1 << 16, 1 << 17)
SIZES = [*(limit + more for limit in LIMITS for more in (-1, 0, 1)), 1 << 20]
ENVELOPE_BYTES = 400  # more than the rest of a job has
MANY = [[*range(1025)], {f"{number}": number for number in range(1025)}, [[]] * 10_001]
# As many lines as a pipe holds, for a client that has fewer jobs in flight leaves the rest there.
AT_ONCE, JOBS = 1100, 10_100
AT_LEAST = 32  # in flight
QUIET_S = 0.2


def of_size(size: int) -> str:
    """A text whose UTF-8 has so many bytes; blocks of any size end within a character."""
    return "\u20ac" * (size // 3) + "x" * (size % 3)


@pytest.mark.requirement("client.job.parameters", "client.settle.value", "client.settle.result")
@pytest.mark.dimensions(size=("8", "100", "1,024", "65,536 bytes", "1 MiB"))
def test_parameters_and_results_of_any_size(client: StartClient, peer: Peer) -> None:
    """Parameters of these sizes are pushed, and messages of exactly these sizes settle."""
    driver = client()

    for size in SIZES:
        # A client may escape what isn't ASCII, which doubles the bytes of these characters.
        text = of_size(size) if size < 1 << 18 else "x" * (size - ENVELOPE_BYTES)
        seq = driver.submit("echo", text, timeout_ms=guard_ms())
        job = peer.claim()
        require(
            job.parameters == text,
            "client.job.parameters",
            expected=f"a text of {size} bytes",
            got=f"{job.parameters!r:.200}",
        )
        value = of_size(size - len(written(id=job.id, result="")))
        peer.answer(job, result=value)
        outcome = driver.outcome(seq)
        require(
            outcome.kind == "result",
            "client.settle.result",
            expected=f"the result in a message of {size} bytes",
            got=outcome,
        )
        require(
            outcome.value == value,
            "client.settle.value",
            expected=f"a text of {len(value)} characters",
            got=f"{outcome.value!r:.200}",
        )


@pytest.mark.requirement("client.settle.result", "client.settle.value")
@pytest.mark.dimensions(size="8", occasion="again", connection="pieces")
def test_a_result_may_come_in_many_pieces(client: StartClient, peer: Peer, proxy: Proxy) -> None:
    """A result that arrives in more than 16 pieces settles its job."""
    driver = client()
    seq = driver.submit("echo", "in one piece")
    peer.answer(peer.claim(), result="in one piece")
    driver.outcome(seq)

    proxy.return_in_pieces(driver.name)
    seq = driver.submit("echo", "in pieces", timeout_ms=guard_ms())
    peer.answer(peer.claim(), result=IN_PIECES)
    outcome = driver.outcome(seq)
    proxy.return_in_pieces(driver.name, over=True)

    require(outcome.kind == "result", "client.settle.result", expected="the result", got=outcome)
    require(
        outcome.value == IN_PIECES,
        "client.settle.value",
        expected=f"a text of {len(IN_PIECES)} characters",
        got=f"{outcome.value!r:.200}",
    )


@pytest.mark.requirement("client.job.parameters", "client.settle.value")
@pytest.mark.dimensions(size=("1,024", "10,000"))
@pytest.mark.parametrize("value", MANY, ids=["elements", "members", "arrays"])
def test_many_elements_are_kept(client: StartClient, peer: Peer, value: object) -> None:
    """Arrays and objects of more elements than a round number are put into the job and taken from the result."""
    driver = client()
    seq = driver.submit("echo", value, timeout_ms=guard_ms())
    job = peer.claim()
    peer.answer(job, result=value)
    outcome = driver.outcome(seq)

    for requirement, got in (
        ("client.job.parameters", job.parameters),
        ("client.settle.value", outcome.value),
    ):
        require(equal(got, value), requirement, expected=f"{value!r:.200}", got=f"{got!r:.200}")


@pytest.mark.requirement("client.settle.error", "client.settle.data")
@pytest.mark.dimensions(size=("100", "1,024", "65,536 bytes"))
def test_errors_of_any_size_are_kept(client: StartClient, peer: Peer) -> None:
    """Codes, messages and data of errors arrive whole, however long they are."""
    driver = client()

    for size in (100, 300, 1025, 65_537):
        code, text = f"a.{'b' * min(size, 1025)}", of_size(size)
        seq = driver.submit("echo", size, timeout_ms=guard_ms())
        data = [text, *range(size)]
        peer.answer(peer.claim(), error={"code": code, "message": text, "data": data})
        outcome = driver.outcome(seq)
        require(
            (outcome.code, outcome.message) == (code, text),
            "client.settle.error",
            expected=f"a code of {len(code)} characters and a message of {len(text)}",
            got=f"{outcome!r:.400}",
        )
        require(
            outcome.data == data,
            "client.settle.data",
            expected=f"{len(data)} elements, the first of them a text of {len(text)} characters",
            got=f"{outcome!r:.400}",
        )


@pytest.mark.requirement("client.job.id", "client.push.once", "client.concurrent.in-flight")
@pytest.mark.dimensions(size=("1,024", "10,000"), moment="outstanding")
def test_ten_thousand_jobs_have_their_own_ids_and_results(
    client: StartClient, peer: Peer, notifier: Notifier
) -> None:
    """Of thousands of jobs, more than a thousand given at once, each has an id and a result of its own."""
    driver = client(direct=True)
    used: Counter[tuple[str, str]] = Counter()
    pushed: Counter[bytes] = Counter()
    shuffled = random.Random(4)
    in_flight = AT_ONCE

    while len(driver.lines) < JOBS:
        settled = len(driver.lines)
        for number in range(settled, min(settled + AT_ONCE, JOBS)):
            driver.submit("echo", number)
        given = min(settled + AT_ONCE, JOBS)
        while len(driver.lines) < given:
            jobs = arrived(peer, notifier, min(given - len(driver.lines), in_flight))
            in_flight = max(len(jobs), AT_LEAST)
            used.update((job.channel, job.id) for job in jobs)
            pushed.update(job.message for job in jobs)
            again = [each for each, times in pushed.items() if times > 1]
            require(
                not again,
                "client.push.once",
                expected="each of these jobs on the queue once",
                got=f"{len(again)} again: {again[:3]}",
            )
            twice = [each for each, times in used.items() if times > 1]
            require(
                not twice,
                "client.job.id",
                expected="another pair of channel and id for each job",
                got=f"{len(twice)} used again: {twice[:3]}",
            )
            shuffled.shuffle(jobs)
            before = len(driver.lines)
            least = before + len(jobs)
            peer.answer_all(jobs)
            notifier.happens(
                lambda least=least: len(driver.lines) >= least,  # type: ignore[misc] # a default's type
                notifier.deadline_s,
            )
            require(
                jobs and len(driver.lines) >= least,
                "client.concurrent.in-flight",
                expected=f"the {given - before} jobs that aren't settled yet",
                got=f"{len(jobs)} pushed, {len(driver.lines) - before} settled",
            )

    wrong = [outcome for outcome in driver.lines if outcome.value != outcome.seq - 1]
    require(
        not wrong,
        "client.concurrent.in-flight",
        expected="each job settled by its own result",
        got=f"{len(wrong)} wrong: {wrong[:3]}",
    )


def arrived(peer: Peer, notifier: Notifier, expected: int) -> list[Job]:
    """The jobs that the client has in flight: as many as are expected, or once no more of them come."""
    jobs: list[Job] = []

    def more() -> bool:
        taken = peer.take_all()
        jobs.extend(taken)
        return bool(taken)

    notifier.happens(more, notifier.deadline_s)
    while len(jobs) < expected and notifier.happens(more, QUIET_S):
        pass
    return jobs
