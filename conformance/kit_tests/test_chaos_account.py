"""The storm's account: what it counts as lost, as late, and as a fault."""

from collections import Counter

import pytest
from chaos import report
from chaos.account import Disturbance, Evidence, Kill, Return, Run, settle
from chaos.calling import outcome


def seen(**what: object) -> Evidence:
    """Job 1 of a client, which Redis accepted, and what is seen of it besides."""
    given: dict[str, object] = {"pushed": {1: "c"}, "accepted": Counter({1: 1}), **what}
    return Evidence(**given)  # type: ignore[arg-type]


RAN = [Run(1, "a", 10, 1.0)]
LOST = {
    "it is nowhere": seen(settled={1: "timeout"}),
    "its caller lost a connection": seen(settled={1: "lost"}),
    "it ran, and no result was sent": seen(settled={1: "timeout"}, runs=RAN),
    "another job's result was sent": seen(settled={1: "timeout"}, sent=frozenset({2})),
}
KEPT = {
    "its caller has the result": seen(settled={1: "result"}),
    "a result was sent": seen(settled={1: "timeout"}, sent=frozenset({1})),
    "it is on a list": seen(settled={1: "timeout"}, left={1: "storm"}),
    "it never reached Redis": seen(settled={1: "lost"}, accepted=Counter()),
}


@pytest.mark.parametrize("evidence", LOST.values(), ids=LOST)
def test_a_lost_job_is_told(evidence: Evidence) -> None:
    """A job that is nowhere, and of which no result was seen, is lost, and its history is shown."""
    account = settle(evidence)

    assert account.lost == [1]
    assert not account.good
    assert "job 1 is lost" in report.text(account)


@pytest.mark.parametrize("evidence", KEPT.values(), ids=KEPT)
def test_a_kept_job_is_not_lost(evidence: Evidence) -> None:
    """A job that was answered, is somewhere, or never came isn't lost."""
    assert settle(evidence).lost == []


STRANGE = {
    "never settled": seen(sent=frozenset({1})),
    "pushed 2 times": seen(settled={1: "result"}, accepted=Counter({1: 2})),
    "but Redis has it": seen(settled={1: "not-queued"}, sent=frozenset({1})),
    "never reached Redis": seen(settled={1: "result"}, accepted=Counter()),
    "settled by c as {}": seen(settled={1: "{}"}, sent=frozenset({1})),
    "is on storm:in-process:a": seen(settled={1: "timeout"}, left={1: "storm:in-process:a"}),
    "is on the dead list": seen(settled={1: "timeout"}, sent=frozenset({1}), dead=frozenset({1})),
    "it hangs": seen(settled={1: "result"}, troubles=["it hangs"]),
}


@pytest.mark.parametrize("words", STRANGE)
def test_what_must_not_be_is_told(words: str) -> None:
    """A hang, a second push, a false outcome: each has a sentence and makes the account bad."""
    account = settle(STRANGE[words])

    assert not account.good
    assert [words in fault for fault in account.faults] == [True]


def test_a_result_that_its_caller_did_not_get_is_counted() -> None:
    """The job ran and was answered, and its caller received something else: no job is lost, a result is."""
    heard = {1: "result", 2: "timeout", 3: "lost", 4: "lost", 5: "not-queued"}
    account = settle(
        Evidence(
            pushed=dict.fromkeys(heard, "c"),
            settled=heard,
            accepted=Counter([1, 2, 3]),
            sent=frozenset({1, 2, 3}),
        )
    )

    assert (account.results_lost, account.answered, account.never_arrived) == (2, 1, 2)
    assert account.good


def test_a_kept_result_that_is_lost_is_told() -> None:
    """Where results are kept, a caller that didn't get one makes the account bad, unless it can't know of its push."""
    heard = {1: "result", 2: "result", 3: "lost", 4: "unanswered", 5: "gone"}
    account = settle(
        Evidence(
            pushed=dict.fromkeys(heard, "c"),
            settled=heard,
            accepted=Counter(heard.keys()),
            sent=frozenset(heard),
            kept=True,
            collecting=frozenset({1}),
        )
    )

    assert [fault.split(" is lost")[0] for fault in account.faults] == ["the result of job 3"]
    assert (account.collected, account.unanswered) == ((1, 1), 1)
    assert "collected after a kill              1 of 1" in report.text(account)


def test_what_was_stored_is_timed_from_the_return_of_redis() -> None:
    """The time counts for what was stored and unsettled then, and not where another fault hit the client."""
    account = settle(
        Evidence(
            pushed={1: "c", 2: "c", 3: "c", 4: "d"},
            settled={1: "result", 2: "result", 3: "result", 4: "result"},
            accepted=Counter([1, 2, 3, 4]),
            settled_at={1: 4.0, 2: 6.5, 3: 7.0, 4: 9.0},
            returns=[Return(5.0, frozenset({1, 2, 4}))],
            disturbances=[Disturbance("d", 5.5, 8.0), Disturbance("c", 1.0, 4.5)],
        )
    )

    assert account.return_to_settled_s == 1.5
    assert account.good


@pytest.mark.parametrize("late, good", [([], False), ([(5.5, 0.2)], False), ([(5.5, 0.4)], True)])
def test_a_stored_result_that_comes_late_is_told(
    late: list[tuple[float, float]], *, good: bool
) -> None:
    """It has 1.5 s from the return of Redis, and the time for which the machine let nobody run meanwhile."""
    account = settle(
        Evidence(
            pushed={1: "c"},
            settled={1: "result"},
            accepted=Counter([1]),
            settled_at={1: 6.8},
            returns=[Return(5.0, frozenset({1}))],
            late=[(4.9, 9.0), *late, (6.9, 9.0)],
        )
    )

    assert account.good is good
    assert good or "the stored result of job 1 came 1.80 s after" in account.faults[0]


@pytest.mark.parametrize("how", ["timeout", "lost", "not-queued"])
def test_a_handle_that_collects_nothing_is_told(how: str) -> None:
    """What a killed client has a handle of is collected, as a result, or the account is bad."""
    account = settle(seen(settled={1: how}, sent=frozenset({1}), collecting=frozenset({1})))

    assert any(f"was collected by its handle as {how}" in fault for fault in account.faults)


def test_second_runs_are_counted_and_timed_from_the_kill() -> None:
    """The time counts from the kill of the server that ran the job, and from the last connect of who runs it again."""
    account = settle(
        Evidence(
            pushed={},
            runs=[
                Run(1, "a", 20, 9.0),
                Run(1, "a", 10, 1.0),
                Run(2, "a", 10, 1.5),  # once
                Run(3, "b", 30, 1.0),
                Run(3, "b", 30, 8.0),  # again, without a kill
            ],
            kills=[Kill("a", 2.0), Kill("b", 20.0), Kill("b", 2.5)],
            connects={"a": [0.5, 8.25, 9.5], "b": [0.5]},
        )
    )

    assert account.run_twice == 2
    assert account.kill_to_rerun_s == 7.0
    assert account.connect_to_rerun_s == 0.75
    assert "longest from connect to re-run      0.75 s" in report.text(account)


@pytest.mark.parametrize(
    "said, how",
    [
        ({"result": {"ms": 5, "storm": 7}}, "result"),
        ({"timeout": True}, "timeout"),
        ({"error": {"code": "connection-lost", "message": ""}}, "lost"),
        ({"error": {"code": "not-queued", "message": ""}}, "not-queued"),
        ({"result": {"ms": 5, "storm": 8}}, '{"result": {"ms": 5, "storm": 8}}'),
        ({"error": {"code": "handler-error"}}, '{"error": {"code": "handler-error"}}'),
    ],
)
def test_an_outcome_is_that_of_its_job(said: dict[str, object], how: str) -> None:
    """Another job's result and an error are none."""
    assert outcome(7, said) == how
