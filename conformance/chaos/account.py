"""What became of every job: the account of a storm.

Pure: evidence in, account out. A job that Redis has accepted is *lost* when it is on no list where a server would
find it, and no result of it was seen: neither by its caller, nor by the relay between its server and Redis.
A job that has run can be lost, too: a server that removes a job before it publishes can lose it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

RETURN_S = 1.5  # from the return of Redis until callers have what was stored: a client's back-off, and more
# "gone": its caller was killed, and had no handle; "unanswered": no caller waits where its push may be lost.
OUTCOMES = frozenset({"result", "timeout", "lost", "not-queued", "gone", "unanswered"})


@dataclass(frozen=True)
class Run:
    """A handler that began to run a job."""

    job: int
    server: str
    process: int
    at_s: float


@dataclass(frozen=True)
class Kill:
    """A server that was killed."""

    server: str
    at_s: float


@dataclass(frozen=True)
class Rerun:
    """A run of a job whose earlier run a kill ended."""

    server: str
    killed_s: float
    at_s: float


@dataclass(frozen=True)
class Return:
    """Redis answered again, to all or to the client that pushed these jobs, whose results were stored."""

    at_s: float
    stored: frozenset[int]


@dataclass(frozen=True)
class Found:
    """A stored result that its caller had after a return of Redis."""

    job: int
    took_s: float
    late_s: (
        float  # for how long in that time the machine kept a thread from running that only waits
    )


@dataclass(frozen=True)
class Disturbance:
    """A fault that a client felt."""

    client: str
    from_s: float
    to_s: float


@dataclass
class Evidence:
    """What was seen. Jobs go by their numbers; what isn't in `settled` has no outcome."""

    pushed: Mapping[int, str] = field(default_factory=dict)  # by which client
    settled: Mapping[int, str] = field(default_factory=dict)  # "result", or how else
    accepted: Counter[int] = field(default_factory=Counter)  # how often it is in Redis's file
    sent: frozenset[int] = frozenset()  # a server was seen to send its result
    left: Mapping[int, str] = field(default_factory=dict)  # on which list it is in the end
    dead: frozenset[int] = frozenset()  # it is on the dead list
    runs: Iterable[Run] = ()
    kills: Iterable[Kill] = ()
    connects: Mapping[str, Sequence[float]] = field(default_factory=dict)  # when which server did
    kept: bool = False  # results were
    collecting: frozenset[int] = frozenset()  # their callers were killed, and had given handles
    settled_at: Mapping[int, float] = field(default_factory=dict)
    returns: Iterable[Return] = ()
    disturbances: Sequence[Disturbance] = ()
    late: Sequence[tuple[float, float]] = ()  # when a thread that only waits woke up, and how late
    troubles: Iterable[str] = ()  # hangs, and what else went wrong


@dataclass
class Account:
    """The sums, and a sentence for each job and each process that shouldn't be as it is."""

    pushed: int
    accepted: int
    answered: int
    lost: list[int]
    run_twice: int
    results_lost: int
    kill_to_rerun_s: float | None
    connect_to_rerun_s: float | None
    kept: bool
    collected: tuple[int, int]  # of how many
    unanswered: int
    return_to_settled_s: float | None
    machine_late_s: float  # in that time
    faults: list[str]

    @property
    def never_arrived(self) -> int:
        """Pushes that never reached Redis: not lost."""
        return self.pushed - self.accepted

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def settle(seen: Evidence) -> Account:
    """Draw the account."""
    runs = sorted(seen.runs, key=lambda run: run.at_s)
    times = Counter(run.job for run in runs)
    accepted = [job for job in seen.pushed if seen.accepted[job]]
    answered = [job for job in accepted if seen.settled.get(job) == "result"]
    lost = [
        job
        for job in accepted
        if job not in seen.left and job not in seen.sent and seen.settled.get(job) != "result"
    ]
    ran = [job for job in accepted if times[job] or job in seen.sent]
    unheard = [
        job for job in ran if job not in lost and seen.settled.get(job) in {"timeout", "lost"}
    ]
    reruns = list(_reruns(runs, list(seen.kills)))
    settled_late = sorted(_settled_after_returns(seen), key=lambda each: each.took_s)
    slowest = settled_late[-1] if settled_late else None
    return Account(
        pushed=len(seen.pushed),
        accepted=len(accepted),
        answered=len(answered),
        lost=lost,
        run_twice=sum(times[job] > 1 for job in times),
        results_lost=len(unheard),
        kill_to_rerun_s=max((each.at_s - each.killed_s for each in reruns), default=None),
        connect_to_rerun_s=max(
            (
                each.at_s - max(at_s for at_s in seen.connects[each.server] if at_s <= each.at_s)
                for each in reruns
                if each.server in seen.connects
            ),
            default=None,
        ),
        kept=seen.kept,
        collected=(len(seen.collecting & set(answered)), len(seen.collecting)),
        unanswered=sum(seen.settled.get(job) == "unanswered" for job in accepted),
        return_to_settled_s=slowest.took_s if slowest else None,
        machine_late_s=slowest.late_s if slowest else 0.0,
        faults=[
            *(
                f"the result of job {job} is lost to {seen.pushed[job]}, though it is kept"
                for job in unheard
                if seen.kept and job not in seen.collecting
            ),
            *(
                f"job {job} of a client that was killed was collected by its handle as {how}"
                for job in sorted(seen.collecting)
                if (how := seen.settled.get(job)) not in {"result", None}
            ),
            *(
                f"the stored result of job {each.job} came {each.took_s:.2f} s after the return of Redis,"
                f" when a thread that only waits had been {each.late_s:.2f} s late"
                for each in settled_late
                if each.took_s > RETURN_S + each.late_s
            ),
            *(f"job {job} is lost: {_story(job, seen, runs)}" for job in lost),
            *_strange(seen),
            *seen.troubles,
        ],
    )


def _reruns(runs: list[Run], kills: list[Kill]) -> Iterable[Rerun]:
    """The next run, by whichever server, of each job that was running when its server was killed.

    Args:
        runs: in the order of time.
        kills: of all servers.
    """
    last: dict[int, Run] = {}
    for run in runs:
        before = last.get(run.job)
        if before is not None and before.process != run.process:
            for kill in kills:
                if kill.server == before.server and before.at_s <= kill.at_s <= run.at_s:
                    yield Rerun(run.server, kill.at_s, run.at_s)
        last[run.job] = run


def _settled_after_returns(seen: Evidence) -> Iterable[Found]:
    """The results that were stored at a return of Redis, and whose callers were undisturbed until they had them."""
    for each in seen.returns:
        for job in each.stored:
            at_s = seen.settled_at.get(job, 0.0)
            if at_s > each.at_s and not any(
                fault.client == seen.pushed[job]
                and fault.from_s <= at_s
                and fault.to_s >= each.at_s
                for fault in seen.disturbances
            ):
                late_s = sum(late_s for then_s, late_s in seen.late if each.at_s < then_s <= at_s)
                yield Found(job, at_s - each.at_s, late_s)


def _strange(seen: Evidence) -> Iterable[str]:
    """What no job may be, though it isn't lost."""
    for job, client in seen.pushed.items():
        how = seen.settled.get(job)
        if seen.accepted[job] > 1:
            yield f"job {job} was pushed {seen.accepted[job]} times by {client} (client.push.once)"
        if how is None:
            yield f"job {job} was never settled by {client} (a hang)"
        elif how == "not-queued" and seen.accepted[job]:
            yield f"job {job} is not-queued, says {client}, but Redis has it (client.settle.not-queued)"
        elif how == "result" and not seen.accepted[job]:
            yield f"job {job} has a result, says {client}, but never reached Redis"
        elif how not in OUTCOMES:
            yield f"job {job} was settled by {client} as {how}"
    for job, key in seen.left.items():
        yield f"job {job} is on {key} although every server is running and idle (a hang)"
    for job in seen.dead:
        yield f"job {job} is on the dead list although it is valid"


def _story(job: int, seen: Evidence, runs: list[Run]) -> str:
    ran = [f"it ran in {run.server} at {run.at_s:.2f} s" for run in runs if run.job == job]
    kills = [
        f"{kill.server} was killed at {kill.at_s:.2f} s"
        for run in runs
        if run.job == job
        for kill in seen.kills
        if kill.server == run.server and run.at_s <= kill.at_s <= run.at_s + 1
    ]
    outcome = seen.settled.get(job, "nothing")
    return ", ".join(
        [
            f"Redis accepted it from {seen.pushed[job]}",
            *(ran or ["no run of it was recorded"]),
            *kills,
            "it is on no list",
            f"no result of it was ever sent, and its caller got {outcome!r}",
        ]
    )
