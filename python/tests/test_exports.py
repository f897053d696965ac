"""The public names, and that the two halves have the same ones."""

import inspect
from concurrent.futures import Future
from types import ModuleType

import jobqueue
import pytest
from jobqueue import aio

NAMES = [
    "Client",
    "ConnectionLost",
    "InvalidHandle",
    "InvalidMessage",
    "Job",
    "JobError",
    "JobQueueError",
    "JobTimeout",
    "NotQueued",
    "ProcessorInUse",
    "ProcessorLost",
    "Server",
]


@pytest.mark.parametrize("module", [jobqueue, aio], ids=["threads", "asyncio"])
def test_the_public_names_are_these(module: ModuleType) -> None:
    """Nothing joins or leaves the public names by accident."""
    assert module.__all__ == NAMES
    assert all(hasattr(module, name) for name in NAMES)


@pytest.mark.parametrize("name", ["Client", "Server", "Job"])
def test_both_halves_have_the_same_methods(name: str) -> None:
    """Both halves have the same methods, except that one awaits."""
    here, there = getattr(jobqueue, name), getattr(aio, name)

    # What a job has of its base has other parameters: a message for `cancel`, or timeouts.
    def own(kind: type) -> dict[str, list[str]]:
        members = inspect.getmembers(kind, inspect.isfunction)
        ours = [(each, f) for each, f in members if f.__module__.startswith("jobqueue")]
        return {
            each: list(inspect.signature(function).parameters)
            for each, function in ours
            if not each.startswith("_") and not hasattr(Future, each)
        }

    assert own(here) == own(there)
    assert own(here)
