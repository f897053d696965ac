"""A real client against a real server: with `--server=X --client=Y`, or both of one implementation."""

import json
from typing import Any

import pytest
from redis import Redis

from jobqueue_conformance.peer.calls import guard_ms, slowly
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.client import ClientProcess
from jobqueue_conformance.programs.starting import LEASES, StartClient, StartServer
from jobqueue_conformance.programs.subjects import Subjects
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.events import COMMAND
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.messages import Job, equal
from jobqueue_conformance.spec.vectors import vectors
from jobqueue_conformance.spec.verdicts import require

IN_FLIGHT = 200
HOUR_MS, LONG_MS = 3_600_000, 60_000
SHORT_MS = 500  # T, where a whole takeover is waited for
TAKEOVER_S = 2 * LEASES * SHORT_MS / 1000  # L + C
FAR_MS = 10**14  # as a time of Redis, in the year 5138
KINDS: dict[str, dict[str, Any]] = {
    "kept": {"keep_ms": HOUR_MS},
    "bare": {},
    "due": {"expires_at_ms": FAR_MS},
    "stale": {"expires_at_ms": 1},
}
VALUES = {vector["id"]: vector["value"] for vector in vectors("values")}


@pytest.mark.requirement("client.settle.value", "server.result.value")
@pytest.mark.dimensions(occasion="again")
def test_values_go_there_and_back(server: StartServer, client: StartClient) -> None:
    """Every value of the fixtures comes back from echo to the client that sent it."""
    server()
    driver = client()

    for name, value in VALUES.items():
        outcome = driver.outcome(driver.submit("echo", value, timeout_ms=guard_ms()))

        require(
            outcome.kind == "result" and equal(outcome.value, value),
            "server.result.value",
            expected=f"the value {name} as it was sent: {value!r:.200}",
            got=outcome,
        )


@pytest.mark.requirement("client.settle.error", "server.run.handler-error")
@pytest.mark.dimensions(occasion="again", answer="error", handler="exception")
def test_errors_reach_the_caller(server: StartServer, client: StartClient) -> None:
    """Errors of a handler and for an unknown method come to the client with their codes, and then a value."""
    server()
    driver = client()
    codes = {"unknown": "method-not-found", "fail": "handler-error", "echo": None}

    for method, code in [*codes.items()] * 3:
        parameters = {"message": "no such user"}
        outcome = driver.outcome(driver.submit(method, parameters, timeout_ms=guard_ms()))

        require(
            outcome.code == code and (code or equal(outcome.value, parameters)),
            "client.settle.error",
            expected=f"{code or parameters} from {method}",
            got=outcome,
        )


@pytest.mark.requirement("client.concurrent.in-flight", "server.publish.channel")
@pytest.mark.dimensions(size="100", moment="outstanding")
def test_many_jobs_in_flight_have_their_own_results(
    server: StartServer, client: StartClient
) -> None:
    """Of 200 jobs that are submitted at once, each is settled by its own result."""
    server()
    driver = client()

    seqs = {driver.submit("echo", {"number": number}): number for number in range(IN_FLIGHT)}
    got = {number: driver.outcome(seq).value for seq, number in seqs.items()}
    wrong = {number: value for number, value in got.items() if value != {"number": number}}

    require(
        not wrong,
        "client.concurrent.in-flight",
        expected=f"each of {IN_FLIGHT} jobs settled by its own result",
        got=f"{len(wrong)} others: {wrong!r:.300}",
    )


@pytest.mark.requirement("server.recovery.first", "client.settle.result")
@pytest.mark.dimensions(occasion="restart", moment="outstanding", repetition="faults")
def test_a_killed_server_costs_no_job(
    server: StartServer, client: StartClient, proxy: Proxy
) -> None:
    """Jobs whose server is killed before their answer have it after its next start."""
    started = server()
    driver = client()

    for life in range(3):
        hold = proxy.hold(
            lambda event: event.kind == COMMAND and event.carries("the victim"), "server"
        )
        seq = driver.submit("echo", f"the victim {life}", timeout_ms=guard_ms())
        hold.wait()
        started.kill()
        hold.drop()
        started = server()
        outcome = driver.outcome(seq)

        require(
            outcome.value == f"the victim {life}",
            "server.recovery.first",
            expected="the result, after a restart",
            got=outcome,
        )


@pytest.mark.requirement("server.takeover.adopts", "client.settle.result")
@pytest.mark.all_serve("takeover")
@pytest.mark.dimensions(occasion="restart", moment="outstanding", repetition="faults")
@pytest.mark.waits(6)
def test_servers_take_over_from_each_other(
    server: StartServer, client: StartClient, proxy: Proxy
) -> None:
    """A job whose server is killed for good is answered by one of the other implementation, and so on back."""
    started = server("life-0", block_ms=SHORT_MS)
    driver = client()

    for life, implementation in enumerate(("client", "server"), start=1):
        victim = f"the victim {life}"
        hold = proxy.hold(
            lambda event: event.kind == COMMAND and event.carries(victim),  # noqa: B023 - asked in this turn only
            started.processor,
        )
        seq = driver.submit("echo", victim, timeout_ms=slowly(LONG_MS))
        hold.wait()
        started.kill()
        hold.drop()
        started = server(f"life-{life}", of=implementation, block_ms=SHORT_MS)
        outcome = driver.outcome(
            seq, proxy.notifier.deadline_s + TAKEOVER_S, "server.takeover.adopts"
        )

        require(
            outcome.value == victim,
            "server.takeover.adopts",
            expected="the result, from a server that has found the lease to end, and marked the list",
            got=outcome,
        )


@pytest.mark.requirement("client.concurrent.in-flight", "server.recovery.first")
@pytest.mark.dimensions(size="100", occasion="restart", moment="outstanding")
def test_two_servers_share_a_clients_load(
    server: StartServer, client: StartClient, peer: Peer
) -> None:
    """Of 200 jobs that two servers share, of which one is killed and comes back, each has its result."""
    _, victim = server("lasting"), server("victim")
    driver = client()

    seqs = {driver.submit("echo", number): number for number in range(IN_FLIGHT)}
    driver.outcome(next(iter(seqs)))
    victim.kill()
    driver.outcome([*seqs][IN_FLIGHT // 2])
    server("victim")
    wrong = {n: out for seq, n in seqs.items() if (out := driver.outcome(seq)).value != n}

    require(
        not wrong,
        "client.concurrent.in-flight",
        expected=f"the results of all {IN_FLIGHT} jobs",
        got=f"{len(wrong)} others: {wrong!r:.300}",
    )
    peer.wait(lambda: not peer.waiting(), "server.remove.finished", "empty lists")


@pytest.mark.requirement("client.kept.member", "client.expiry.member", "server.run.handler")
@pytest.mark.dimensions(size="8", occasion="again")
def test_any_server_runs_jobs_that_expire_and_are_kept(
    server: StartServer, client: StartClient
) -> None:
    """Whatever features a server has, it runs jobs that ask for them, between others that don't."""
    server()
    driver = client()
    features: list[dict[str, Any]] = [{}, {"keep_ms": HOUR_MS}, {"expires_in_ms": HOUR_MS}]
    asked = [*features, features[1] | features[2]] * 3

    for number, each in enumerate(asked):
        outcome = driver.outcome(driver.submit("echo", number, guard_ms(), **each))

        require(
            outcome.value == number,
            "server.run.handler",
            expected=f"the result {number} of a job with {each}",
            got=outcome,
        )


@pytest.mark.requirement(
    "client.kept.collects", "server.kept.stores", "client.concurrent.in-flight"
)
@pytest.mark.dimensions(occasion="restart", moment="outstanding", caller="gone")
def test_results_outlive_a_killed_client(
    server: StartServer, client: StartClient, proxy: Proxy, subjects: Subjects
) -> None:
    """By the handles of a killed client one of the other implementation collects what is kept, and what comes later."""
    server()
    first = client()
    hold = proxy.hold(lambda event: event.kind == COMMAND and event.carries("late"), "server")
    seqs = [first.submit("echo", each, keep_ms=HOUR_MS, detached=True) for each in ("kept", "late")]
    given = [first.handle(seq) for seq in seqs]
    hold.wait()
    first.kill()

    other = "kept-results-client" in subjects.of_class("server").features
    second = client(of="server" if other else "client")
    kept, late = (second.collect(handle, slowly(LONG_MS)) for handle in given)
    outcome = second.outcome(kept, requirement="client.kept.collects")
    require(
        outcome.value == "kept", "client.kept.collects", expected="the kept result", got=outcome
    )
    hold.release()
    outcome = second.outcome(late, requirement="client.kept.collects")
    require(
        outcome.value == "late", "client.kept.collects", expected="the late result", got=outcome
    )


@pytest.mark.requirement(
    "server.run.members", "server.run.handler", "server.publish.once", "client.settle.result"
)
@pytest.mark.all_serve
@pytest.mark.dimensions(occasion="again", moment="outstanding")
def test_one_queue_has_servers_with_features_and_without(
    server: StartServer,
    client: StartClient,
    peer: Peer,
    proxy: Proxy,
    redis: Redis,
    keys: Keys,
    subjects: Subjects,
) -> None:
    """A server whose features are off answers each kind of job, alone and beside another that has its own features."""
    features = {
        "plain": subjects.of_class("server").features,
        "other": subjects.of_class("client").features,
    }
    plain = server("plain", lease_ms=0, keep_max_ms=0, max_attempts=0)
    for kind, members in KINDS.items():
        job = peer.push("echo", kind, **members)
        require_answer(peer, proxy, redis, keys, job, features)
    driver = client()
    call_in_each_way(driver, features["other"])

    other = server("other", of="client")
    for kind, members in [*KINDS.items()] * 2:
        jobs = [peer.job("echo", kind, **members) for _ in range(2)]
        plain.wait_idle()
        other.wait_idle()
        peer.push_job(*jobs)  # one for each of two claims that wait
        for job in jobs:
            require_answer(peer, proxy, redis, keys, job, features)
    call_in_each_way(driver, features["other"])


def call_in_each_way(driver: ClientProcess, features: frozenset[str]) -> None:
    """A client with or without features has the results of its jobs, whatever server takes them."""
    asked: list[dict[str, Any]] = [{}]
    if "kept-results-client" in features:
        asked.append({"keep_ms": HOUR_MS})
    if "expiry-client" in features:
        asked += [each | {"expires_in_ms": HOUR_MS} for each in asked]
    for options in asked * 2:
        outcome = driver.outcome(driver.submit("echo", [options], guard_ms(), **options))
        require(
            equal(outcome.value, [options]),
            "client.settle.result",
            expected=f"the result of a job with {options}",
            got=outcome,
        )


def require_answer(
    peer: Peer,
    proxy: Proxy,
    redis: Redis,
    keys: Keys,
    job: Job,
    features: dict[str, frozenset[str]],
) -> None:
    """One server answers a job once, by its kind and by this server's features; only the other one stores results."""
    wanted = f"one result of a job that is {job.parameters}"
    peer.wait(lambda: peer.received(job), "server.publish.once", wanted)
    peer.wait_gone(job.message, requirement="server.remove.finished")
    peer.messages()  # a second result would be among them
    answer, *more = peer.received(job)
    require(not more, "server.publish.once", expected=wanted, got=peer.received(job))

    (who,) = {each.who for each in list(proxy.events) if matches.command(job)(each)}
    expired = job.parameters == "stale" and "expiry" in features[who]
    code = answer.get("error", {}).get("code")
    require(
        code == "expired" if expired else answer.get("result") == job.parameters,
        "server.run.handler",
        expected=f"{'the error `expired`' if expired else 'a value'} from the {who} server",
        got=answer,
    )
    if "kept-results" in features[who]:
        stored = redis.get(keys.result(job.message))
        kept = job.parameters == "kept" and who == "other"
        require(
            (stored and json.loads(stored)) == (answer if kept else None),
            "server.kept.stores" if kept else "server.kept.value",
            expected=f"{'the result' if kept else 'nothing'}, stored by the {who} server",
            got=stored,
        )
