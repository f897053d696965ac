"""What becomes of a job: run by the handler that it names, or answered with an error."""

from itertools import cycle
from typing import Any

import pytest

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.spec.messages import WIRE_CODES, Job, equal, read_result
from jobqueue_conformance.spec.vectors import Vector, job, message, vectors
from jobqueue_conformance.spec.verdicts import require

RUN = vectors("jobs", "run")
REFUSED = vectors("jobs", "invalid-job", "method-not-found")
RUN_REQUIREMENTS: list[str] = sorted({vector["requirements"][0] for vector in RUN})
REFUSED_REQUIREMENTS: list[str] = sorted(
    {"server.run.handler", *(vector["requirements"][0] for vector in REFUSED)}
)
HOSTILE = vectors("jobs", "dead", "either")
LONG_BYTES = 10_000
MANY = 1100
ODD_FAILURES: list[Any] = [
    {"message": "no such user"},
    {"message": ""},
    {"message": "\"'\\\n\u0000😀%s{}"},
    {"message": None},
    {"message": 404},
    {"message": ["a", {"b": 1}]},
    {"message": "x" * 100_000},
    {},
    {"code": "billing.card-declined"},
    [],
    "message",
    None,
    False,
    7,
]


def as_told(vector: Vector, result: dict[str, Any]) -> bool:
    """Whether this is the answer that the vector gives."""
    if vector["outcome"] == "run" and vector["method"] == "echo":
        return "result" in result and equal(result["result"], vector["parameters"])
    code = "handler-error" if vector["outcome"] == "run" else vector["outcome"]
    return "error" in result and result["error"]["code"] == code


@pytest.mark.requirement(*RUN_REQUIREMENTS)
@pytest.mark.dimensions(occasion="again")
def test_a_job_is_run_as_its_vector_tells(server: StartServer, peer: Peer) -> None:
    """Each job of the fixtures that names a handler is run, however it is spelled."""
    server()
    require_answers(peer, RUN)


@pytest.mark.requirement(*REFUSED_REQUIREMENTS)
@pytest.mark.dimensions(occasion="again")
def test_a_job_that_cannot_be_run_is_told_so(server: StartServer, peer: Peer) -> None:
    """Each job of the fixtures without a method, or whose method nobody knows, has the error of its vector."""
    server()
    require_answers(peer, REFUSED)


def require_answers(peer: Peer, listed: tuple[Vector, ...]) -> None:
    """Each of these jobs is answered as its vector says; one that is run by another's handler breaks more."""
    peer.push_job(*map(job, listed))
    for vector in listed:
        requirement = vector["requirements"][0]
        result = peer.result(job(vector), requirement)
        ran = vector["outcome"] == "method-not-found" and result.get("result") == 1

        require(
            as_told(vector, result),
            "server.run.handler" if ran else requirement,
            expected=f"the outcome of the vector {vector['id']}: {message(vector)!r:.300}",
            got=f"{result!r:.300}",
        )


@pytest.mark.requirement("server.run.handler")
@pytest.mark.dimensions(occasion="again", handler="exception")
def test_each_method_has_its_own_handler(server: StartServer, peer: Peer) -> None:
    """Jobs of two methods, mixed, each run the handler of their own."""
    server()

    jobs = [peer.push(method, {"message": "x"}) for method in ["echo", "fail", "fail", "echo"] * 5]
    wrong = [
        each.method
        for each in jobs
        if ("result" in peer.result(each, "server.run.handler")) != (each.method == "echo")
    ]

    require(
        not wrong,
        "server.run.handler",
        expected="a value from echo, an error from fail",
        got=f"the opposite from {wrong}",
    )


@pytest.mark.requirement("server.run.handler-error", "server.result.error")
@pytest.mark.dimensions(size="65,536 bytes", occasion="again", handler="exception")
def test_a_failing_handler_is_an_error_with_a_message(server: StartServer, peer: Peer) -> None:
    """However a handler fails, its job is answered with handler-error, in the form that errors have."""
    server()

    jobs = [peer.push("fail", parameters) for parameters in ODD_FAILURES]
    errors = [peer.result(each, "server.run.handler-error").get("error", {}) for each in jobs]

    for parameters, error in zip(ODD_FAILURES, errors, strict=True):
        require(
            error.get("code") == "handler-error",
            "server.run.handler-error",
            expected=f"handler-error where fail is given {parameters!r:.60}",
            got=error,
        )


@pytest.mark.requirement("server.result.code")
@pytest.mark.dimensions(occasion="again", handler="exception")
def test_codes_are_registered(server: StartServer, peer: Peer) -> None:
    """Every error that a server makes up itself has a code of the registry."""
    server()

    failing = [peer.push("fail", parameters) for parameters in ODD_FAILURES]
    peer.push_job(*map(job, REFUSED))
    results = [peer.result(each, "server.result.code") for each in (*failing, *map(job, REFUSED))]
    codes = {result["error"]["code"] for result in results if "error" in result}

    require(
        all("error" in result for result in results),
        "server.run.handler-error",
        expected="an error for every job that fails or can't be run",
        got=f"{results!r:.300}",
    )
    require(
        all("." in code or code in WIRE_CODES for code in codes),
        "server.result.code",
        expected=f"codes with a dot, or of {sorted(WIRE_CODES)}",
        got=sorted(codes),
    )


@pytest.mark.requirement("server.run.handler-error", "server.run.goes-on")
@pytest.mark.dimensions(occasion="again", handler="worst exception", repetition="faults")
def test_every_way_to_fail_is_answered(server: StartServer, peer: Peer) -> None:
    """A handler that fails by the language's other way, such as a panic, is answered as one that fails as usual."""
    server()

    for n in range(3):
        failed = peer.push("fail", {"message": f"abruptly {n}", "abruptly": True})
        peer.result(failed, "server.run.handler-error")
        peer.wait_gone(failed.message, requirement="server.remove.finished")
        peer.result(peer.push("echo", f"behind {n}"), "server.run.goes-on")


@pytest.mark.requirement("server.run.goes-on")
@pytest.mark.dimensions(size="65,536 bytes", occasion="again", handler="exception")
def test_a_good_job_runs_behind_every_hostile_message(server: StartServer, peer: Peer) -> None:
    """Behind each message that is dead or unusual, failing or unknown, the next job is run."""
    server()
    good: list[Job] = []

    for vector in (*HOSTILE, *REFUSED):
        peer.push_message(message(vector))
        good.append(peer.push("echo", f"behind {vector['id']}"))
    for parameters in ODD_FAILURES:
        peer.push("fail", parameters)
        good.append(peer.push("echo", f"behind a failure of {parameters!r:.40}"))

    for behind in good:
        peer.result(behind, "server.run.goes-on")


@pytest.mark.requirement("server.publish.once", "server.run.goes-on", "server.claim.order")
@pytest.mark.dimensions(size="1,024", occasion="again")
def test_a_thousand_jobs_have_their_results_among_hostile_neighbours(
    server: StartServer, peer: Peer
) -> None:
    """Of 1,100 jobs in a row, with hostile messages between them, each has its own result, in their order."""
    hostile = cycle(each for each in map(message, HOSTILE) if len(each) < LONG_BYTES)
    jobs = [peer.job("echo", {"number": number}) for number in range(MANY)]

    for tenth in range(0, len(jobs), 10):
        neighbours = [job.message for job in jobs[tenth : tenth + 10]]
        peer.push_message(*neighbours, next(hostile))
    server()
    peer.wait_settled(*jobs)
    peer.messages()  # hears all that has been published
    values = {job.id: [each.get("result") for each in peer.received(job)] for job in jobs}
    wrong = [(job.parameters, values[job.id]) for job in jobs if values[job.id] != [job.parameters]]

    require(
        not wrong,
        "server.publish.once",
        expected=f"for each of {MANY} jobs its own value, once",
        got=f"{len(wrong)} others: {wrong!r:.500}",
    )
    numbers = {job.id: number for number, job in enumerate(jobs)}
    heard = [each.data for each in peer.messages() if each.channel == peer.channel]
    ids = [read_result(data)["id"] for data in heard]
    order = [numbers[each] for each in ids if each in numbers]
    require(
        order == sorted(order),
        "server.claim.order",
        expected="results in the order of the jobs",
        got=order,
    )
