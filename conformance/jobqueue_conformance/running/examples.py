"""How Hypothesis makes examples here: few, the same ones in every run, with a blob that replays one.

The first failure ends the search. A value is then made smaller for a few seconds. A sequence of rules is reported as it
failed: where something hangs, each try at a shorter one would take as long as the first.

Processes race, so a failure need not happen a second time; it is reported all the same.
"""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import Flaky

SHRINKING_S = 5  # only the example that runs then takes longer

examples = settings(
    max_examples=60,
    deadline=None,  # a process that is slow is not wrong
    derandomize=True,
    database=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
stories = settings(examples, phases=[Phase.explicit, Phase.generate])


def run(check: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a check on examples, and raise what the first one that failed has shown."""
    engine = "hypothesis.internal.conjecture.engine.MAX_SHRINKING_SECONDS"
    monkeypatch.setattr(engine, SHRINKING_S)
    try:
        check()
    except Flaky as flaky:
        for failure in _causes(flaky):
            if isinstance(failure, AssertionError):
                raise failure from None
        raise


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for each in error.exceptions:
                yield from _causes(each)
        error = error.__cause__ or error.__context__
