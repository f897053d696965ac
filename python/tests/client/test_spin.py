"""Spinning: for how long, and when not. The clock is the tests' own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from jobqueue.threads import spin
from jobqueue.threads.spin import SKIP_LIMIT, SPIN_SECONDS, Spin

if TYPE_CHECKING:
    from collections.abc import Callable

STEP = SPIN_SECONDS / 4


class World:
    """A clock that advances at each poll."""

    def __init__(self) -> None:
        self.now = 0.0
        self.spin = Spin()

    def asked(self, ready_at: int | None = 1, step: float = STEP) -> int:
        """Wait until this poll, or without success; return the number of polls."""
        asked = 0

        def ready() -> bool:
            nonlocal asked
            asked += 1
            self.now += step
            return asked == ready_at

        self.spin.wait(ready)
        return asked

    def asleep(self, wait: Callable[[], int]) -> int:
        """Return how many waits don't poll before one does."""
        return next(count for count in range(SKIP_LIMIT + 1) if wait())

    def in_vain(self) -> int:
        """Wait without success."""
        return self.asked(None)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A spin on a clock of its own."""
    world = World()
    monkeypatch.setattr(spin, "time", SimpleNamespace(monotonic=lambda: world.now))
    return world


def test_it_ends_as_soon_as_something_is_there(world: World) -> None:
    """And spins each time, while that succeeds."""
    assert [world.asked(ready_at=3) for _ in range(5)] == [3] * 5


def test_it_ends_where_nothing_comes(world: World) -> None:
    """The question that is asked when the time is over is the last."""
    assert world.in_vain() == SPIN_SECONDS / STEP


def test_what_was_in_vain_is_tried_less_and_less(world: World) -> None:
    """Twice as many waits sleep each time, up to a limit."""
    assert [world.asleep(world.in_vain) for _ in range(14)] == [
        *(0, 2, 4, 8, 16, 32, 64, 128, 256, 512),
        *(1024, 1024, 1024, 1024),
    ]


def test_what_comes_too_late_is_in_vain(world: World) -> None:
    """Another process had the processor, and sleeping would have been as fast."""
    assert world.asked(ready_at=1, step=2 * SPIN_SECONDS) == 1
    assert world.asleep(world.asked) == 2


def test_what_pays_is_trusted_again(world: World) -> None:
    """Each success takes back one failure."""
    for _ in range(3):
        world.asleep(world.in_vain)
    assert world.asleep(world.asked) == 8
    assert [world.asleep(world.asked) for _ in range(5)] == [0] * 5

    world.in_vain()
    assert world.asleep(world.asked) == 2


def test_an_error_comes_through(world: World) -> None:
    """And says nothing about what pays."""

    def broken() -> bool:
        raise OSError("the connection is gone")

    with pytest.raises(OSError, match="gone"):
        world.spin.wait(broken)
    assert world.asked() == 1
