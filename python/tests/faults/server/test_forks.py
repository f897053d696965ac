"""What a handler forks is not a server: it gets ordinary signals, and ends by itself."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import until
from tests.faults.serving import KINDS, PATIENCE_S, Program, obeys

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue import Client

LEAVES = [
    (method, leave)
    for method in ("fork", "fork-in-thread")
    for leave in ("return", "raise", "exit", "exit-thread", "interrupt")
]
AWAITS = [("fork-and-await", what) for what in ("nothing", "a turn", "a sleep", "a future")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_that_leaves_a_handler_ends_by_itself(
    program: Callable[..., Program], client: Client, kind: str
) -> None:
    """However it leaves: only the parent answers, each job once, and it goes on to serve."""
    running = program()
    children = set()
    for method, how in LEAVES + (AWAITS if kind.startswith("asyncio") else []):
        job = client.run(method, how)
        assert running.settled(job).result(0) == "parent", (method, how)
        children.add(int(running.line()))

    served_by = {running.settled(client.run("pid")).result(0) for _ in range(20)}

    assert served_by == {running.process.pid}
    until(lambda: children.isdisjoint(running.members()), "the children to end by themselves")
    running.process.send_signal(signal.SIGTERM)
    assert running.status() == 0
    assert running.line() == "stopped"


@pytest.mark.parametrize("kind", KINDS)
def test_a_childs_terminate_works(program: Callable[..., Program], client: Client) -> None:
    """`Process.terminate()` ends what a handler has forked, by SIGTERM's own way."""
    running = program()

    assert running.settled(client.run("sleeper", "fork", timeout=PATIENCE_S)).result() == -15


@pytest.mark.parametrize("kind", KINDS)
def test_no_signal_is_too_early_for_a_child(
    program: Callable[..., Program], client: Client
) -> None:
    """SIGTERM ends a child also where it comes before anything of Python has run there."""
    running = program()

    assert running.settled(client.run("early", timeout=PATIENCE_S)).result() == -15


@pytest.mark.parametrize("kind", KINDS)
def test_a_started_program_can_be_terminated(
    program: Callable[..., Program], client: Client
) -> None:
    """A program that a handler starts has SIGTERM neither blocked nor ignored."""
    running = program()

    assert running.settled(client.run("sleeper", "program", timeout=PATIENCE_S)).result() == -15


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_can_be_interrupted(program: Callable[..., Program], client: Client) -> None:
    """SIGINT raises KeyboardInterrupt in a child, as it does in any program."""
    running = program()

    assert running.settled(client.run("interrupted", timeout=PATIENCE_S)).result() is True


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_pool_works_in_a_handler(
    program: Callable[..., Program], client: Client, redis: Any
) -> None:
    """It works, ends although one of its processes sleeps, and SIGTERM ends the server afterwards."""
    running = program()

    assert running.settled(client.run("pool", [-1, 2], timeout=PATIENCE_S)).result() == [1, 2]

    running.process.send_signal(signal.SIGTERM)
    assert obeys(lambda: running.ended, client)
    assert running.status() == 0
    assert redis.llen("job-queue:in-process:program") == 0
    assert running.members() <= {running.process.pid}
