"""A failing example: found once, made smaller within bounds or not at all, and reported with how to repeat it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from jobqueue_conformance.running import examples
from jobqueue_conformance.spec.verdicts import Failure, require

ORDER = "server.claim.order"
numbers = st.integers(0, 10**9)


def check(tried: list[int], *, wrong_from: int, once: bool = False) -> None:
    """Run a check that fails from a number on, each time or only once."""

    @examples.examples
    @given(numbers)
    def holds(number: int) -> None:
        before = any(each >= wrong_from for each in tried)
        tried.append(number)
        wrong = number >= wrong_from and not (once and before)
        require(not wrong, ORDER, expected="less", got=number)

    with pytest.MonkeyPatch.context() as patch:
        examples.run(holds, patch)


def test_a_value_is_made_smaller() -> None:
    """The failure that is reported is the smallest."""
    with pytest.raises(Failure, match=r"got: +1000\n"):
        check([], wrong_from=1000)


def test_making_it_smaller_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its time is up, nothing is tried any more but for the repetition of what is reported."""
    monkeypatch.setattr(examples, "SHRINKING_S", 0)
    tried: list[int] = []

    with pytest.raises(Failure):
        check(tried, wrong_from=1000)

    first = next(place for place, each in enumerate(tried) if each >= 1000)
    assert len(tried) - first <= 4


def test_a_failure_that_happens_once_is_reported() -> None:
    """Processes race: that the second time all was well doesn't make the first one right."""
    with pytest.raises(Failure, match="expected: less"):
        check([], wrong_from=1000, once=True)


def test_a_story_is_reported_as_it_failed() -> None:
    """The first failure ends the search; it is repeated to print it, and no shorter sequence is searched for."""
    failures: list[list[int]] = []

    class Story(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.steps: list[int] = []

        @rule(number=numbers)
        def step(self, number: int) -> None:
            self.steps.append(number)
            if len(self.steps) > 3:
                failures.append(self.steps)
            require(len(self.steps) <= 3, ORDER, expected="few", got=self.steps)

    def tell() -> None:
        run_state_machine_as_test(Story, settings=settings(examples.stories))

    with pytest.raises(Failure) as failed, pytest.MonkeyPatch.context() as patch:
        examples.run(tell, patch)

    notes: list[Any] = getattr(failed.value, "__notes__", [])
    assert len(failures) == 2
    assert failures[0] == failures[1]
    assert any("step(number=" in each for each in notes)
    assert any("reproduce_failure" in each for each in notes)
