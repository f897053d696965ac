"""Runs the suite against one manifest in a process of its own, and reports how each test ended.

The process is forked from one that has imported everything, which makes a session cost a fraction
of `pytest` on the command line; whatever it prints goes to a log next to its manifest. The parent
has one thread only, so forking it is safe.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import multiprocessing
import os
import random
import signal
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue_conformance.programs.process import SetupError
from jobqueue_conformance.proxy.waiting import Hung
from jobqueue_conformance.running.session import requirements_of
from jobqueue_conformance.spec import data
from jobqueue_conformance.spec.paths import SUITE
from jobqueue_conformance.spec.verdicts import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.context import ForkProcess

ROOT = Path(__file__).parents[2]
PROGRAMS = ("server", "client")
IN_TEST = "PROOF_TEST"
FORK = multiprocessing.get_context("fork")
FIXTURE_LABELS = {"id", "why", "outcome", "requirements"}
READ: set[str] = (
    set()
)  # the vectors whose content this process asked for, or the one it was forked from


@dataclass(frozen=True)
class Ended:
    """How one test ended.

    `how` is `passed`, `failed` by an assertion, `hung` where nothing came before a deadline, `refused`
    where the program can't be put under test, `skipped` or `error`; `blamed` are the requirements that
    the assertion is about.
    """

    test: str
    how: str
    blamed: tuple[str, ...] = ()
    message: str = ""
    took_s: float = 0.0


@dataclass(frozen=True)
class SuiteTest:
    """A test: its requirements, its docstring, its file, and the programs that it starts.

    `dimensions` are the pairs of a dimension and a value that it is marked with.
    """

    id: str
    requirements: tuple[str, ...]
    docstring: str
    file: str
    programs: tuple[str, ...]
    dimensions: tuple[tuple[str, str], ...] = ()


@dataclass
class Session:
    """Everything that one run of the suite reported."""

    tests: list[SuiteTest] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    fixtures_read: set[str] = field(default_factory=set)
    problem: str | None = None
    took_s: float = 0.0


@dataclass(frozen=True)
class Order:
    """A run to be made: tests (all if none is named) against a manifest, in `limit_s` seconds."""

    name: str
    manifest: Path
    tests: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    limit_s: float = 120.0
    seed: int | None = None  # of a random order
    before: Callable[[], None] | None = None  # called in the process that runs the tests
    folder: Path | None = None  # for the log and the outcome; the manifest's where it is None

    @property
    def log(self) -> Path:
        """The log of what the run prints."""
        return (self.folder or self.manifest.parent) / f"{self.name}.log"

    @property
    def outcome(self) -> Path:
        """The outcome of the run."""
        return self.log.with_suffix(".json")


class Recorder:
    """A pytest plugin that notes what the tests are and how they end."""

    def __init__(self, session: Session, seed: int | None = None) -> None:
        self.session = session
        self.seed = seed

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put the tests in the order that was asked for, and note them."""
        if self.seed is not None:
            random.Random(self.seed).shuffle(items)  # noqa: S311 - no secret, and to be repeated
        self.session.tests = [
            SuiteTest(
                id=short(item.nodeid),
                requirements=requirements_of(item),
                docstring=getattr(getattr(item, "function", None), "__doc__", None) or "",
                file=item.path.name,
                programs=tuple(
                    each for each in PROGRAMS if each in getattr(item, "fixturenames", ())
                ),
                dimensions=_dimensions_of(item),
            )
            for item in items
        ]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Tell the programs that it starts in which test they are; pytest's own variable isn't passed on."""
        os.environ[IN_TEST] = short(item.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        """Note how a test, or its set-up or its tear-down, ended."""
        error = call.excinfo.value if call.excinfo is not None else None
        if error is None and call.when != "call":
            return
        ids = requirements_of(item)
        blamed = (error.requirement,) if isinstance(error, Failure) else ids
        ended = Ended(short(item.nodeid), _how(error), blamed, str(error or ""), call.duration)
        earlier = self.session.ended[-1] if self.session.ended else None
        if earlier is not None and earlier.test == ended.test:
            self.session.ended.pop()  # a teardown that fails after the call is the test's end
            ended = earlier if earlier.how != "passed" else ended
        self.session.ended.append(ended)


def _dimensions_of(item: pytest.Item) -> tuple[tuple[str, str], ...]:
    return tuple(
        (dimension, value)
        for marker in item.iter_markers("dimensions")
        for dimension, given in marker.kwargs.items()
        for value in ((given,) if isinstance(given, str) else given)
    )


def _how(error: BaseException | None) -> str:
    if error is None:
        return "passed"
    if isinstance(error, pytest.skip.Exception):
        return "skipped"
    if isinstance(error, Hung):
        return "hung"
    if isinstance(error, SetupError):
        return "refused"
    return "failed" if isinstance(error, AssertionError) else "error"


class Watched(dict[str, Any]):
    """A fixture's vector that notes its name in READ when its content is asked for."""

    def __init__(self, name: str, vector: dict[str, Any]) -> None:
        super().__init__(vector)
        self.name = name

    def __getitem__(self, key: str) -> Any:
        if key not in FIXTURE_LABELS:
            READ.add(self.name)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """As a dict's."""
        if key not in FIXTURE_LABELS:
            READ.add(self.name)
        return super().get(key, default)


def watch_fixtures() -> None:
    """Have every vector that is loaded from now on note when it is read."""
    load: Callable[[Path], Any] = data.load

    def load_watched(path: Path) -> Any:
        loaded = load(path)
        if path.parent.name == "fixtures":
            vectors = loaded["vectors"]
            vectors[:] = [Watched(f"{path.stem}/{each['id']}", each) for each in vectors]
        return loaded

    data.load = load_watched


def located(test: str) -> str:
    """Where pytest finds a test or a file of tests that mutants.toml names; no two files share a name."""
    file, separator, name = test.partition("::")
    [path] = SUITE.rglob(file)
    return f"{path}{separator}{name}"


def short(node_id: str) -> str:
    """A test's id without the folders, as mutants.toml writes it."""
    return node_id.rpartition("/")[2] if "[" not in node_id else _short_parametrized(node_id)


def _short_parametrized(node_id: str) -> str:
    name, bracket, parameters = node_id.partition("[")
    return name.rpartition("/")[2] + bracket + parameters


def collect(order: Order) -> Session:
    """What tests there are; done in this process, so that those forked from it have all modules."""
    watch_fixtures()
    session = Session()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        session.problem = play(session, order, "--collect-only", "-q")
    if session.problem is not None:
        session.problem += "\n" + said.getvalue()
    return session


def play(session: Session, order: Order, *options: str) -> str | None:
    """One pytest session in this process; returns why it ran no tests, if so."""
    arguments = [located(test) for test in order.tests] or [str(SUITE)]
    arguments += [f"--impl={order.manifest}", f"--rootdir={ROOT}", f"-c={ROOT / 'pyproject.toml'}"]
    # Rewritten assertions would make each process compile the suite again.
    arguments += ["--assert=plain", "-p", "no:xdist", "-p", "no:cacheprovider"]
    # Sessions that share pytest's own folder remove one another's files.
    arguments += [f"--basetemp={order.log.with_suffix('.tmp')}"]
    status = pytest.main(
        [*arguments, *order.options, *options], plugins=[Recorder(session, order.seed)]
    )
    if status in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
        return None
    return f"pytest ended with {pytest.ExitCode(status).name}"


def run(orders: Sequence[Order], processes: int) -> Iterator[tuple[Order, Session]]:
    """Make the runs, this many at a time, and give each as it ends."""
    gc.freeze()  # imported objects are never garbage: no child has to visit, and so to copy, them
    waiting = list(orders)
    running: dict[int, tuple[Order, ForkProcess, float]] = {}
    while waiting or running:
        while waiting and len(running) < processes:
            order = waiting.pop(0)
            process = FORK.Process(target=_child, args=(order,))
            process.start()
            running[process.sentinel] = (order, process, time.monotonic() + order.limit_s)
        next_limit = min(limit for _, _, limit in running.values())
        wait(list(running), max(0.0, next_limit - time.monotonic()))
        for sentinel, (order, process, limit) in list(running.items()):
            if process.exitcode is None and time.monotonic() < limit:
                continue
            late = process.exitcode is None
            if late:
                _kill_group(process)
            process.join()
            del running[sentinel]
            yield order, _result(order, late=late)


def _child(order: Order) -> None:
    os.setsid()  # so that a hang can be ended with all that it started
    order.outcome.unlink(missing_ok=True)
    with order.log.open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.stdout.flush()
    session = Session()
    if order.before is not None:
        order.before()
    started = time.monotonic()
    try:
        session.problem = play(session, order)
    except BaseException:
        session.problem = traceback.format_exc()
    session.took_s = time.monotonic() - started
    written = asdict(session) | {"fixtures_read": sorted(READ)}
    del written["tests"]  # the parent has them already
    order.outcome.write_text(json.dumps(written), encoding="utf-8")
    os._exit(0)


def _result(order: Order, *, late: bool) -> Session:
    if late:
        return Session(problem=f"hung: no end within {order.limit_s:.0f} s")
    try:
        written = json.loads(order.outcome.read_text("utf-8"))
    except FileNotFoundError:
        return Session(problem="the process that ran it died")
    return Session(
        ended=[Ended(**{**each, "blamed": tuple(each["blamed"])}) for each in written["ended"]],
        fixtures_read=set(written["fixtures_read"]),
        problem=written["problem"],
        took_s=written["took_s"],
    )


def _kill_group(process: ForkProcess) -> None:
    assert process.pid is not None
    os.killpg(process.pid, signal.SIGKILL)
