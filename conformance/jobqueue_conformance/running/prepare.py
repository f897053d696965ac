"""Before the first test: find what is under test and a Redis, set it up, and see whether it works at all.

A mistake found here is reported in one sentence, not as the failure of a test.
"""

import os
import shlex
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from jobqueue_conformance.programs.process import CANNOT_RUN_HERE
from jobqueue_conformance.programs.subjects import WANTED_REDIS, Subjects
from jobqueue_conformance.redis_servers import choice
from jobqueue_conformance.redis_servers.base import RedisUnavailable
from jobqueue_conformance.spec.manifest import Implementation, ManifestError
from jobqueue_conformance.spec.paths import PACKAGE, SUITE
from jobqueue_conformance.sweep.attempt import Sweep

SMOKE = SUITE / "test_smoke.py"
NESTED = "JOBQUEUE_SMOKE_RUN"
COMMAND_NOT_FOUND = 127  # a shell's status


def subjects(config: pytest.Config) -> Subjects:
    """What the options put under test."""
    options = config.option
    try:
        return Subjects.chosen(options.impl, options.server, options.client)
    except ManifestError as error:
        raise pytest.UsageError(str(error)) from error


def redis(config: pytest.Config) -> None:
    """Decide which Redis this run is on; every process of it reads the option."""
    options = config.option
    try:
        options.redis = choice.choose(options.redis, options.redis_image, partial(_say, config))
    except RedisUnavailable as error:
        raise pytest.UsageError(str(error)) from error
    if "://" in options.redis and getattr(options, "numprocesses", None):
        raise pytest.UsageError("a Redis of your own can't be shared among processes: leave -n out")


def origin(config: pytest.Config) -> str:
    """Where this run's Redis comes from, without a password."""
    chosen: str = config.option.redis
    if "://" in chosen:
        return f"{urlsplit(chosen).scheme}://{urlsplit(chosen).hostname}"
    return f"container {config.option.redis_image}" if chosen == "container" else Path(chosen).name


def setup(implementation: Implementation) -> str | None:
    """Run the manifest's setup command, in its folder; why it can't be run here, where a tool is missing."""
    if implementation.setup is None:
        return None
    done = subprocess.run(  # noqa: S602 - it is a shell's command by definition
        implementation.setup, shell=True, cwd=implementation.folder, check=False
    )
    if done.returncode in {CANNOT_RUN_HERE, COMMAND_NOT_FOUND}:
        return f"the setup of {implementation.name} needs a tool that is not installed: {implementation.setup}"
    if done.returncode:
        raise pytest.UsageError(
            f"the setup of {implementation.name} failed with status {done.returncode}:"
            f" {implementation.setup}"
        )
    return None


def collects_all(config: pytest.Config) -> bool:
    """Tell whether the whole suite is collected: the command line names no file of it."""
    return NESTED not in os.environ and not _files(config)


def smoke(config: pytest.Config) -> bool:
    """Whether the smoke test passes, so that the rest is worth running; true where it isn't run.

    It is run ahead, in a process of its own, and only where the command line selects no tests.
    """
    options = config.option
    chosen = options.keyword or options.markexpr or options.boundary or _files(config)
    if chosen or options.collectonly or NESTED in os.environ:
        return True
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", str(SMOKE), *subject_options(config)),
            *("-p", "jobqueue_conformance.plugin", "-p", "no:xdist", "-p", "no:cacheprovider"),
            f"--rootdir={config.rootpath}",
            f"--redis={options.redis}",
            f"--redis-image={options.redis_image}",
        ],
        env={**os.environ, NESTED: "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode == pytest.ExitCode.OK


def subject_options(config: pytest.Config) -> list[str]:
    """The options that put under test what is under test here."""
    given = {name: getattr(config.option, name) for name in ("impl", "server", "client")}
    return [f"--{name}={value}" for name, value in given.items() if value]


def replay(item: pytest.Item) -> str:
    """The command that runs one test again, from where this run was started."""
    config = item.config
    installed = config.inipath == PACKAGE / "pytest.ini"
    test = shlex.quote(item.nodeid)
    command = f"jobqueue-conformance {test}" if installed else f"pytest {test}"
    options = [*subject_options(config)]
    if (wanted := config.stash[WANTED_REDIS]) != "auto":
        options.append(f"--redis={wanted}")
    boundary = _boundary(item)
    if boundary:
        options.append(f"--boundary={boundary}")
    return " ".join([command, *(shlex.quote(each) for each in options)])


def _boundary(item: pytest.Item) -> int | None:
    """The boundary at which the fault sweep of this test is, or was when it failed."""
    given = getattr(item, "funcargs", {})
    sweep = given.get("server_sweep") or given.get("client_sweep")
    current = sweep.current if isinstance(sweep, Sweep) else None
    chosen: int | None = item.config.option.boundary
    return chosen if current is None else current.number


def _files(config: pytest.Config) -> bool:
    return any(".py" in arg for arg in config.args)


def _say(config: pytest.Config, sentence: str) -> None:
    """Say it now: what pytest has captured by here would come out below the result."""
    captured = config.pluginmanager.getplugin("capturemanager")
    with captured.global_and_fixture_disabled() if captured else nullcontext():
        print(f"jobqueue: {sentence}", file=sys.stderr, flush=True)
