"""JSON values and ids on their way: through a server and back, into a client's job and out of its result.

The values are those of the fixtures, and whatever Hypothesis makes of the portable set.
"""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobqueue_conformance.peer.calls import guard_ms
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.client import ClientProcess
from jobqueue_conformance.programs.starting import StartClient, StartServer
from jobqueue_conformance.running.examples import examples, run
from jobqueue_conformance.spec.messages import equal
from jobqueue_conformance.spec.vectors import vectors
from jobqueue_conformance.spec.verdicts import require

VALUES = {vector["id"]: vector["value"] for vector in vectors("values")}
IDS = {vector["id"]: vector["job_id"] for vector in vectors("ids")}
LARGE = "0123456789abcdef" * (1 << 16)
ENVELOPE_BYTES = 400

# What careless software changes: chance alone would make too little of it.
CHANGED = {
    "texts": [
        " padded ",
        "<b>&amp;</b>",
        "a/b",
        "\U0001f600",
        "e\u0301",
        "\u2028",
        "\0",
        "NaN",
        "",
    ],
    "numbers": [0.1, -0.5, 1e-7, 1.25, 1e300, 2**53 - 1, 1 - 2**53, 2**31, -1, 1.0, 0],
    "": [None, True, False, [], {}, [[]], [None], {"null": None}],
}

text = st.text(st.characters(exclude_categories=["Cs", "Cn"]))
numbers = st.integers(1 - 2**53, 2**53 - 1) | st.floats(1 - 2.0**53, 2.0**53 - 1)
portable = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(text, inner, max_size=5),
    max_leaves=15,
)


@pytest.mark.requirement("server.result.value", "server.result.form", "server.run.parameters")
@pytest.mark.dimensions(size="1 MiB", occasion="again")
def test_values_come_back_from_a_server(server: StartServer, peer: Peer) -> None:
    """Every value of the fixtures, and one of almost 1 MiB, comes back from echo as it went in."""
    server()
    values = {**VALUES, "large": LARGE[:-ENVELOPE_BYTES]}

    jobs = {name: peer.push("echo", value) for name, value in values.items()}
    for name, job in jobs.items():
        result = peer.result(job, "server.result.value")

        require(
            "result" in result and equal(result["result"], values[name]),
            "server.result.value",
            expected=f"the value {name} as it went in: {values[name]!r:.200}",
            got=f"{result!r:.400}",
        )


@pytest.mark.requirement("server.result.id")
@pytest.mark.dimensions(occasion="again")
def test_ids_come_back_from_a_server(server: StartServer, peer: Peer) -> None:
    """Every id of the fixtures comes back as the same string."""
    server()

    jobs = {name: peer.push("echo", name, id=job_id) for name, job_id in IDS.items()}
    peer.wait_gone(*(job.message for job in jobs.values()), requirement="server.remove.finished")
    peer.messages()  # hears all that has been published
    missing = [name for name, job in jobs.items() if not peer.received(job)]

    require(
        not missing,
        "server.result.id",
        expected="a result with each id, as the same string",
        got=f"none for {missing} among {[message.data for message in peer.messages()]!r:.600}",
    )
    for job in jobs.values():
        peer.results(job)  # which looks at every value


@pytest.mark.requirement("server.result.value", "server.run.parameters")
@pytest.mark.dimensions(occasion="again")
def test_whatever_is_portable_comes_back_from_a_server(
    server: StartServer, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any value of the portable set comes back from echo as it went in."""
    started = server()

    @examples
    @example(CHANGED)
    @given(portable)
    def comes_back(value: Any) -> None:
        nonlocal started
        started = started if started.running else server()
        result = peer.result(peer.push("echo", value), "server.result.value")
        require(
            "result" in result and equal(result["result"], value),
            "server.result.value",
            expected=f"{value!r}",
            got=result,
        )

    run(comes_back, monkeypatch)


@pytest.mark.requirement("client.job.parameters", "client.settle.value")
@pytest.mark.dimensions(size="1 MiB", occasion="again")
def test_values_pass_through_a_client(client: StartClient, peer: Peer) -> None:
    """Every value of the fixtures, and one of almost 1 MiB, is put into the job and taken from the result."""
    driver = client()
    for name, value in {**VALUES, "large": LARGE[:-ENVELOPE_BYTES]}.items():
        require_unchanged(driver, peer, name, value)


@pytest.mark.requirement("client.job.parameters", "client.settle.value")
@pytest.mark.dimensions(occasion="again")
def test_whatever_is_portable_passes_through_a_client(
    client: StartClient, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any value of the portable set is put into the job and taken from the result unchanged."""
    driver = client()

    @examples
    @example(CHANGED)
    @given(portable)
    def passes(value: Any) -> None:
        nonlocal driver
        driver = driver if driver.running else client()
        require_unchanged(driver, peer, "made by Hypothesis", value)

    run(passes, monkeypatch)


def require_unchanged(driver: ClientProcess, peer: Peer, name: str, value: Any) -> None:
    """The client pushes this value, and settles by it, as it is."""
    seq = driver.submit("echo", value, timeout_ms=guard_ms())
    job = peer.claim()
    require(
        equal(job.parameters, value),
        "client.job.parameters",
        expected=f"the value {name} in the job: {value!r:.200}",
        got=f"{job.parameters!r:.200}",
    )

    peer.answer(job, result=value)
    outcome = driver.outcome(seq)

    require(
        outcome.kind == "result" and equal(outcome.value, value),
        "client.settle.value",
        expected=f"the value {name} from the result: {value!r:.200}",
        got=f"{outcome!r:.400}",
    )
