"""The kit's options and its place in pytest; what they need is imported only where something is under test.

Loaded by `-p` for every run in the repository, so it is cheap, and silent without `--impl`. With pytest's own
`--strict`, a SHOULD that isn't met fails the run.
"""

import os
import sys
from pathlib import Path

import pytest

from jobqueue_conformance.spec.assertions import NO_ASSERTIONS
from jobqueue_conformance.spec.paths import SUITE

JUNIT = "junit.xml"
# Tests mostly wait for what programs do, so it pays to run more of them than there are cores.
DEFAULT_WORKERS = 10
TEACH = (
    "the conformance suite tests an implementation: name one by --impl=NAME or --impl=path/to/impl.toml,"
    " or a pair by --server=X --client=Y"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the kit."""
    group = parser.getgroup("jobqueue", "JobQueue conformance")
    group.addoption("--impl", metavar="NAME|PATH", help="the implementation under test")
    group.addoption("--server", metavar="NAME|PATH", help="the server of this implementation …")
    group.addoption("--client", metavar="NAME|PATH", help="… against the client of this one")
    group.addoption(
        "--redis",
        metavar="auto|container|embedded|PATH|URL",
        default="auto",
        help="the Redis to test on (default: %(default)s)",
    )
    group.addoption(
        "--redis-image",
        metavar="IMAGE",
        default="redis:8",
        help="the container's image (default: %(default)s)",
    )
    group.addoption(
        "--boundary", metavar="K", type=int, help="replay a fault sweep at this boundary only"
    )
    group.addoption("--report", metavar="DIR", type=Path, help="write the reports into this folder")
    group.addoption(
        "--forbid-unsupported",
        action="store_true",
        help="fail where something couldn't be tested here",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Choose the number of processes and the reports of a run, where the command line doesn't."""
    known = early_config.known_args_namespace
    if not _under_test(known):
        return
    args.insert(0, "--tb=short")
    if hasattr(known, "maxschedchunk"):
        args.insert(0, "--maxschedchunk=1")  # in the order of the suite, by any free process
    if known.report is not None:
        args.insert(0, f"--junitxml={known.report / JUNIT}")
    whole = not known.boundary and not known.keyword and not any("::" in arg for arg in args)
    alone = "://" in known.redis or getattr(known, "usepdb", False)
    if getattr(known, "numprocesses", 0) is None and whole and not alone:
        args.insert(0, f"--numprocesses={DEFAULT_WORKERS}")


def pytest_configure(config: pytest.Config) -> None:
    """Register the suite's markers and, where an implementation is under test, the rest of the kit."""
    config.addinivalue_line(
        "markers",
        "requirement(*ids): the requirements of spec/protocol.md that this test proves",
    )
    config.addinivalue_line(
        "markers",
        "dimensions(**values): where this test goes beyond the usual, as conformance/dimensions.toml has it",
    )
    config.addinivalue_line(
        "markers",
        "all_serve(*features): starts a server of each implementation under test, and each has these features",
    )
    config.addinivalue_line(
        "markers",
        "waits(seconds): mostly waits, about as long on an idle machine, so that it is begun before others",
    )
    if _under_test(config.option):
        if os.name != "posix":
            raise pytest.UsageError("the kit needs POSIX signals and processes: run it in WSL")
        if not __debug__:
            raise pytest.UsageError(NO_ASSERTIONS)
        _leave_assertions_alone(config)
        from jobqueue_conformance.running import (  # noqa: PLC0415 - only where something is under test
            fixtures,
            session,
        )

        this = session.Run(config)
        config.pluginmanager.register(this, "jobqueue-run")
        if this.reports:
            from jobqueue_conformance.running import (  # noqa: PLC0415 - only in one process of a run
                progress,
                terminal,
            )

            config.pluginmanager.register(terminal.Reporter(this), "jobqueue-reporter")
            config.pluginmanager.register(progress.Progress(config), "jobqueue-progress")
        config.pluginmanager.register(fixtures, "jobqueue-fixtures")


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Refuse to collect the suite where no implementation is named."""
    config = session.config
    if _under_test(config.option):
        return
    for arg in config.args:
        path = Path(config.invocation_params.dir, arg.partition("::")[0]).resolve()
        if path in (SUITE, *SUITE.parents) or SUITE in path.parents:
            raise pytest.UsageError(TEACH)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where something is under test, collect the suite, and nothing else."""
    if not _under_test(config.option):
        return None
    on_the_way = collection_path in (SUITE, *SUITE.parents) or SUITE in collection_path.parents
    return None if on_the_way else True


def _leave_assertions_alone(config: pytest.Config) -> None:
    """Keep pytest from rewriting the suite: it says by itself what was expected, and each process starts sooner."""
    rewriting: object = config.pluginmanager.rewrite_hook
    sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not rewriting]


def _under_test(options: object) -> bool:
    return any(getattr(options, name, None) for name in ("impl", "server", "client"))
