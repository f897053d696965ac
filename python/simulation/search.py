"""Many worlds: whether a seed's world keeps the laws, the smallest plan that breaks one, its story."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from simulation.broken import Broken
from simulation.draws import draw
from simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simulation.plan import Plan

SHRINKS = 400  # worlds that are tried at most to make a failure smaller
LINES = 50  # of a story
WIDTH = 110

PartT = TypeVar("PartT")
Line: TypeAlias = tuple[float, str, tuple[Any, ...]]  # of a story


class Failure(NamedTuple):
    """A plan that breaks a law, and its world, as it was then."""

    plan: Plan
    law: str
    sentence: str
    world: World


class Counts:
    """What has been simulated."""

    def __init__(self) -> None:
        self.worlds = 0
        self.seconds = 0.0
        self.jobs = 0
        self.runs = 0
        self.steps = 0
        self.faults: Counter[str] = Counter()

    def add(self, world: World) -> None:
        """Add a world."""
        self.worlds += 1
        self.seconds += world.clock.now
        self.jobs += len(world.laws.order)
        self.runs += len(world.laws.starts)
        self.steps += world.steps
        self.faults += world.struck

    def __str__(self) -> str:
        """One line, then the faults by kind."""
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.faults.most_common())
        return (
            f"{self.worlds:,} worlds, {self.seconds / 3600:,.1f} simulated hours, {self.jobs:,} jobs, "
            f"{self.runs:,} runs, {self.steps:,} steps, {self.faults.total():,} faults\n{kinds}"
        )


def attempt(plan: Plan, counts: Counts | None = None) -> Failure | None:
    """Let a plan come true; None where every law holds."""
    world = World(plan)
    try:
        world.run()
    except Broken as broken:
        return Failure(plan, broken.law, str(broken), world)
    except Exception as error:
        return Failure(plan, "raises nothing unexpected", f"the core raised {error!r}", world)
    if counts is not None:
        counts.add(world)
    return None


def shrink(failure: Failure) -> Failure:
    """Leave out faults, pushes and servers as long as the same law is broken."""
    tries = [SHRINKS]

    def smaller(parts: Sequence[PartT], having: Callable[[tuple[PartT, ...]], Plan]) -> None:
        nonlocal failure
        kept = list(parts)
        size = max(1, len(kept) // 2)
        while kept and tries[0] > 0:
            at = 0
            while at < len(kept) and tries[0] > 0:
                less = kept[:at] + kept[at + size :]
                tries[0] -= 1
                found = attempt(having(tuple(less)))
                if found is not None and found.law == failure.law:
                    failure, kept = found, less
                else:
                    at += size
            if size == 1:
                return
            size //= 2

    def replaced(**parts: Any) -> Plan:
        return dataclasses.replace(failure.plan, **parts)

    smaller(failure.plan.faults, lambda faults: replaced(faults=faults))
    smaller(failure.plan.servers, lambda servers: replaced(servers=servers))
    smaller(failure.plan.clients, lambda clients: replaced(clients=clients))
    for number, client in enumerate(failure.plan.clients):

        def pushing(pushes: tuple[Any, ...], number: int = number) -> Plan:
            clients = list(failure.plan.clients)
            clients[number] = clients[number]._replace(pushes=pushes)
            return replaced(clients=tuple(clients))

        smaller(client.pushes, pushing)
    smaller(failure.plan.clients, lambda clients: replaced(clients=clients))
    smaller(failure.plan.servers, lambda servers: replaced(servers=servers))
    smaller(failure.plan.faults, lambda faults: replaced(faults=faults))
    return failure


def told(failure: Failure) -> str:
    """The smallest plan, and the last steps of its world, for a reader."""
    plan = failure.plan
    lines = [f"seed {plan.seed} breaks a law: {failure.sentence}", "", "Who takes part:"]
    lines += [
        f"  {each.name}: concurrency {each.concurrency}, prefetch {each.prefetch}, "
        f"T {each.block_seconds:g} s"
        + (f", takeover with L {plan.lease_seconds:g} s" if each.takeover else "")
        + (", a new name for each life" if each.fresh else "")
        for each in plan.servers
    ]
    lines += [
        f"  {each.name}: {each.links} links, pushes {sum(push.jobs for push in each.pushes)} jobs"
        for each in plan.clients
    ]
    lines += ["Faults that it takes:", *(f"  {each}" for each in plan.faults or ("none",))]
    story = _told(list(failure.world.story))
    lines += ["The last steps, without most of what idle servers do:"]
    lines += [
        f"  {at:9.4f}  {sentence.format(*map(_readable, values)):.{WIDTH}}"
        for at, sentence, values in story[-LINES:]
    ]
    lines.append(f"  {failure.world.clock.now:9.4f}  so it is broken: {failure.sentence}")
    return "\n".join(lines)


def seed_holds(seed: int, counts: Counts) -> Failure | None:
    """Simulate a seed."""
    return attempt(draw(seed), counts)


def _told(story: list[Line]) -> list[Line]:
    """Leave out idle lines that are far from any other."""
    busy = [number for number, (_, _, values) in enumerate(story) if not _idle(values)]
    near = {number + by for number in busy for by in range(-4, 3)}
    return [line for number, line in enumerate(story) if number in near]


def _idle(values: tuple[Any, ...]) -> bool:
    """Whether a line is about claims, looks and replies without a job."""
    exchanged = values[-1] if values else None
    return isinstance(exchanged, list) and all(
        not each or (type(each) is tuple and each[0] in {b"BLMOVE", b"LMOVE", b"LRANGE"})
        for each in exchanged
    )


def _readable(value: Any) -> str:
    if isinstance(value, bytes):
        text = value.decode(errors="backslashreplace")
        if text.startswith('{"method"'):  # a job, by its parameters: its client and its id
            parts = text.split('"')
            return f"<{parts[7]}/{parts[9]}>" if len(parts) > 9 else text
        return text
    if type(value) is tuple:  # a command
        return " ".join(map(_readable, value))
    if isinstance(value, list):
        return "[" + ", ".join(map(_readable, value)) + "]"
    return str(value)
