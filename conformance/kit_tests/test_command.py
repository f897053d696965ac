"""The installed command: from the wheel, in an empty environment, in another folder."""

import os
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from jobqueue_conformance.spec import data
from jobqueue_conformance.spec.paths import IMPLEMENTATIONS, PACKAGE

ROOT = PACKAGE.parents[1]
PYTHON = IMPLEMENTATIONS / "python"


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as this interpreter's module."""
    path = os.pathsep.join(sys.path)
    return subprocess.run(
        [sys.executable, "-m", "jobqueue_conformance", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_new_writes_a_manifest_that_is_valid_and_keeps_what_is_there(tmp_path: Path) -> None:
    """`new` gives a porter everything to fill in, once."""
    first = command("new", "port", cwd=tmp_path)
    second = command("new", "port", cwd=tmp_path)

    assert first.returncode == 0, first.stderr
    written = tomllib.loads((tmp_path / "port" / "impl.toml").read_text())
    data.validator("implementation").validate(written)
    assert (tmp_path / "port" / "server.py").is_file()
    assert (tmp_path / "port" / "client.py").is_file()
    assert second.returncode == 1
    assert "was not changed" in second.stderr


def test_the_smoke_test_says_what_is_wrong_with_a_skeleton(tmp_path: Path) -> None:
    """A porter's first run fails in one place, with what the program itself said."""
    command("new", ".", cwd=tmp_path)

    run = command("--redis=embedded", cwd=tmp_path)

    assert run.returncode == 1
    assert "the smoke test failed, so nothing else is run" in run.stdout
    assert "write your server here" in run.stdout


def test_a_missing_extra_is_one_sentence() -> None:
    """Without the packages of the extra the command says how to install them, with status 2."""
    run = subprocess.run(
        [sys.executable, "-S", "-m", "jobqueue_conformance"],  # -S hides what is installed
        env={"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.count("\n") == 1
    assert "pip install 'jobqueue[conformance]'" in run.stderr


def test_without_assertions_nothing_is_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python that leaves assertions out would pass or accuse at random: one sentence, no report."""
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")

    run = command("--impl=python", "--report=report", cwd=tmp_path)

    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: the kit tests by assertions" in run.stderr
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    "arguments, status, says",
    [
        ([], 2, "jobqueue-conformance new DIR"),
        (["--help"], 0, "--report DIR"),
        (["new"], 2, "usage"),
        (["--impl=nowhere"], 4, "'nowhere' is not a manifest"),
        (["--impl=python", "--redis=nowhere"], 4, "not a program that can be started"),
    ],
)
def test_a_wrong_call_is_answered_by_one_sentence(
    arguments: list[str], status: int, says: str, tmp_path: Path
) -> None:
    """The command teaches, and exits with a status of its own where nothing was tested."""
    called = command(*arguments, cwd=tmp_path)

    assert called.returncode == status, called.stderr
    assert says in called.stdout + called.stderr
    assert "Traceback" not in called.stdout + called.stderr


def test_the_wheel_brings_the_same_suite(tmp_path: Path) -> None:
    """From the built wheel, in an empty environment and another folder, the suite runs and is green."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    programs = environment / "bin"
    subprocess.run(
        [programs / "pip", "install", "--quiet", f"{wheel}[conformance]"],
        check=True,
        capture_output=True,
    )
    project = tmp_path / "project"
    shutil.copytree(PYTHON, project, ignore=shutil.ignore_patterns("__pycache__"))

    run = subprocess.run(
        [
            *(programs / "jobqueue-conformance", "--impl", "./impl.toml", "--redis=embedded"),
            *("-k", "smoke or vector", "-n", "2", "--report", "reports", "-q"),
        ],
        cwd=project,
        env={"PATH": os.defpath, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout
    assert (project / "reports" / "report.json").is_file()
    assert (project / "reports" / "junit.xml").is_file()


@pytest.mark.parametrize(
    "manifest",
    [
        'setup = "no-such-tool"\n[server]\ncommand = ["./server"]\n',
        '[server]\ncommand = ["sh", "-c", "echo no such tool >&2; exit 69"]\n',
    ],
    ids=["setup", "server"],
)
def test_a_missing_tool_is_unsupported_and_never_green(manifest: str, tmp_path: Path) -> None:
    """What can't run here isn't tested, says why, and doesn't pass."""
    (tmp_path / "impl.toml").write_text(f'name = "mine"\nspec = "1.0"\n{manifest}')

    run = command("--redis=embedded", cwd=tmp_path)

    assert run.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, run.stdout + run.stderr
    assert "unsupported" in run.stdout
    assert "no-such-tool" in run.stdout or "no such tool" in run.stdout
