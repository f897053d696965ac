"""Timeouts of every size: infinite, longer than a wait can take, and no number at all."""

import math
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any

import pytest
from jobqueue import Client, JobTimeout
from redis import Redis

from tests.faults.caller import DEADLINE_S, Caller
from tests.faults.worker import Worker, answer, claim

ENDLESS = {"inf": math.inf, "beyond a wait": threading.TIMEOUT_MAX * 2, "2**63": 2**63}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("name", ENDLESS)
def test_a_timeout_without_end_is_none(caller: Caller, worker: Worker, name: str) -> None:
    """client.timeout.settles: infinity means no timeout, and later timeouts pass as before.

    A timeout that is longer than a wait can be means the same.
    """
    endless = ENDLESS[name]
    caller.run("never", timeout=endless)
    echoed = caller.run("echo", 1, timeout=endless)

    assert caller.outcome(echoed) == 1
    assert isinstance(caller.outcome(caller.run("never", timeout=0.05)), JobTimeout)
    assert isinstance(caller.outcome(caller.run("never", timeout=0)), JobTimeout)
    assert worker.claimed


def test_a_timeout_that_no_float_holds(caller: Caller, worker: Worker) -> None:
    """An integer has no largest value, and a long timeout is valid."""
    assert caller.outcome(caller.run("echo", 1, timeout=2**2000)) == 1
    assert isinstance(caller.outcome(caller.run("never", timeout=0.05)), JobTimeout)
    assert worker.claimed


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_ordinary_timeout_passes_beside_one_without_end(caller: Caller, worker: Worker) -> None:
    """client.timeout.settles: one that is under way already isn't lost, either."""
    ordinary = caller.run("never", timeout=0.2)
    caller.run("never", timeout=math.inf)
    later = caller.run("never", timeout=0.3)

    assert isinstance(caller.outcome(ordinary), JobTimeout)
    assert isinstance(caller.outcome(later), JobTimeout)
    assert isinstance(caller.outcome(caller.run("never", timeout=0.05)), JobTimeout)
    assert worker.claimed


@pytest.mark.parametrize("wrong", [-1, -0.001, -math.inf, math.nan])
def test_what_is_no_timeout_is_refused(caller: Caller, worker: Worker, wrong: float) -> None:
    """A mistake of the caller is a ValueError before anything is sent, and does no harm."""
    with pytest.raises(ValueError, match="timeout"):
        caller.run("echo", 1, timeout=wrong)

    assert caller.outcome(caller.run("echo", 2, timeout=DEADLINE_S)) == 2
    assert [job["parameters"] for job in worker.claimed] == [2]


@pytest.mark.parametrize("wrong", ["1", [], {}, 1j])
def test_what_is_no_number_is_a_type_error(caller: Caller, worker: Worker, wrong: Any) -> None:
    """A timeout that isn't a number is a TypeError before anything is sent; the client stays usable."""
    with pytest.raises(TypeError):
        caller.run("echo", 1, timeout=wrong)

    assert caller.outcome(caller.run("echo", 2, timeout=DEADLINE_S)) == 2
    assert [job["parameters"] for job in worker.claimed] == [2]


@pytest.mark.parametrize("endless", [math.inf, threading.TIMEOUT_MAX * 2])
def test_a_wait_without_end_waits(
    connect: Callable[..., Client], redis: Redis, endless: float
) -> None:
    """`result(timeout=math.inf)` waits until the job is settled, as `result()` does."""
    job = connect().run("echo", 1)
    with ThreadPoolExecutor() as threads:
        waits = [threads.submit(job.result, endless), threads.submit(job.exception, endless)]
        ended = wait(waits, timeout=0.3, return_when=FIRST_COMPLETED).done
        answer(redis, claim(redis), result=1)

    assert not ended, "expected both to wait for the job"
    assert [each.result() for each in waits] == [1, None]


def test_the_command_takes_an_infinite_timeout(redis_url: str, worker: Worker) -> None:
    """`jobqueue run --timeout inf` waits for the result and prints it."""
    command = [sys.executable, "-m", "jobqueue", "run", "echo", "1", "--timeout", "inf"]

    done = subprocess.run(
        [*command, "--redis", redis_url],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    assert worker.claimed
