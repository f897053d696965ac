"""The suite under pytest: what is collected, what is refused, what comes first."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from jobqueue_conformance.running.session import waits_s
from jobqueue_conformance.spec.paths import PACKAGE, SUITE

ROOT = PACKAGE.parents[1]
SERVER_TESTS = [str(SUITE / "server" / f"test_server_{each}.py") for each in ("claim", "remove")]
BROKEN = """
name = "broken"
spec = "1.0"

[server]
command = ["{python}", "-c", "raise SystemExit('no configuration')"]
"""


def run_pytest(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest at the root of the repository."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def verdicts(report: Path) -> dict[str, str]:
    """What a report says of each requirement of a server without features."""
    written = json.loads((report / "report.json").read_text())
    return {
        each["id"]: each["verdict"]
        for each in written["requirements"]
        if each["class"] == "server" and each["feature"] is None
    }


def test_the_suite_teaches_what_it_needs() -> None:
    """Without an implementation, collecting the suite is a usage error of one sentence."""
    ran = run_pytest("conformance")

    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert ran.stderr.startswith("ERROR: the conformance suite tests an implementation: name one")


@pytest.mark.parametrize(
    "manifest, sentence",
    [
        (
            "nobody",
            "'nobody' is not a manifest, a folder with one, or an implementation that ships",
        ),
        ('name = "x"\nspec = "1.0"', "'server' is a required property"),
        (
            'name = "x"\nspec = "2.0"\n[server]\ncommand = ["x"]',
            "at spec: '2.0' is not one of ['1.0', '1.1']",
        ),
        (
            'name = "x"\nspec = "1.0"\nserver.command = ["x"]\nfeatures.attempts = true',
            "unknown feature 'attempts'; the features of 1.0 are channel-prefix, concurrency, ",
        ),
        (
            'name = "x"\nspec = "1.1"\nserver.command = ["x"]\n[features]\nattempts = true\nrecovery = true',
            "the feature 'attempts' needs the feature 'dead-list'",
        ),
        ("name =", "is not valid TOML"),
    ],
)
def test_a_manifest_with_a_mistake_is_one_sentence(
    tmp_path: Path, manifest: str, sentence: str
) -> None:
    """A manifest that can't be used is a usage error that says why, without a traceback."""
    path = tmp_path / "impl.toml"
    path.write_text(manifest)

    ran = run_pytest("conformance", f"--impl={path if ' ' in manifest else manifest}")

    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert sentence in ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr


def test_the_suite_is_the_suite_and_nothing_else(tmp_path: Path) -> None:
    """With an implementation, the kit's own tests aren't collected, nor what doesn't apply to it."""
    (tmp_path / "impl.toml").write_text(BROKEN)

    ran = run_pytest("conformance", f"--impl={tmp_path}", "--collect-only", "-q", "-p", "no:xdist")
    collected = {line.partition("::")[0] for line in ran.stdout.splitlines() if "::" in line}

    assert any("test_server" in each for each in collected)
    assert not any("kit_tests" in each or "test_client" in each for each in collected)


@pytest.mark.waits(7)
def test_a_test_says_how_long_it_waits(request: pytest.FixtureRequest) -> None:
    """By a mark; what has none waits for nothing."""
    assert waits_s(request.node) == 7
    assert waits_s(request.node.parent) == 0


def test_nothing_is_run_behind_a_smoke_test_that_fails(tmp_path: Path) -> None:
    """A program that can't be tested fails once, and the failure says what is wrong with it."""
    (tmp_path / "impl.toml").write_text(BROKEN)

    ran = run_pytest("conformance", f"--impl={tmp_path}", "--redis=embedded")

    assert ran.returncode == pytest.ExitCode.TESTS_FAILED
    assert "1 failed" in ran.stdout.splitlines()[-1]
    assert "passed" not in ran.stdout.splitlines()[-1]
    assert "the server exited with 1; its stderr: no configuration" in ran.stdout


@pytest.mark.parametrize("processes", ["-n0", "-n2"])
def test_progress_names_each_file_and_how_many_tests_are_left(
    tmp_path: Path, processes: str
) -> None:
    """A line when the last test of a file has ended; pytest's own output where it is asked for."""
    (tmp_path / "impl.toml").write_text(BROKEN)
    options = (f"--impl={tmp_path}", "--redis=embedded", processes, "-k", "order")

    said = run_pytest(*SERVER_TESTS, *options).stdout.splitlines()
    verbose = run_pytest(*SERVER_TESTS, *options, "-v").stdout

    lines = [each for each in said if each.endswith(" left")]
    assert [each.split(":")[0] for each in lines] == ["server/test_server_claim.py"]
    count = lines[0].split()[1]
    assert lines[0].endswith(f": {count} run, {count} failed; 0 left")
    assert "test_server_claim.py::" in verbose
    assert " left\n" not in verbose


def test_what_was_not_run_is_listed_as_such(tmp_path: Path) -> None:
    """Where the first failure ends the run, what comes behind it is neither green nor without application."""
    (tmp_path / "impl.toml").write_text(BROKEN)
    options = (f"--impl={tmp_path}", "--redis=embedded", "-x", "-n2")

    ran = run_pytest(*SERVER_TESTS, *options, f"--report={tmp_path}")
    said = verdicts(tmp_path)
    assert ran.stdout.splitlines()[-1] == f"page: {tmp_path}/index.html", "the last line names it"

    assert ran.returncode != pytest.ExitCode.OK
    assert set(said.values()) == {"set-up-error", "not-run", "untested"}
    assert said["server.remove.exact-bytes"] == "not-run"
    assert "not-run" in ran.stdout


def test_what_the_command_line_left_out_is_untested(tmp_path: Path) -> None:
    """A selection of tests says nothing about those that it leaves out."""
    (tmp_path / "impl.toml").write_text(BROKEN)
    options = (f"--impl={tmp_path}", "--redis=embedded", f"--report={tmp_path}")

    run_pytest(*SERVER_TESTS, *options, "-k", "server.claim.order")

    assert "not-run" not in verdicts(tmp_path).values()


def test_the_result_is_the_last_that_is_said(tmp_path: Path) -> None:
    """That there is no container is said before anything is run."""
    (tmp_path / "impl.toml").write_text(BROKEN)

    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
            *("conformance", f"--impl={tmp_path}", "--collect-only", "-q"),
        ],
        cwd=ROOT,
        env={**os.environ, "DOCKER_HOST": "tcp://127.0.0.1:1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    lines = ran.stdout.splitlines()

    assert lines[0].startswith("jobqueue: no container: ")
    assert "tests collected" in lines[-1]
