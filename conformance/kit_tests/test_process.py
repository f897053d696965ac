"""What is under test: started as the manifest says, explained when it can't be, ended with all that it started."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from jobqueue_conformance.programs import forking
from jobqueue_conformance.programs.process import Exited, Process, SetupError
from jobqueue_conformance.proxy.waiting import Notifier
from jobqueue_conformance.spec.verdicts import Unsupported

WITH_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
child.wait()
"""
KIT = """
import os, sys
from pathlib import Path
from jobqueue_conformance.proxy.waiting import Notifier
from jobqueue_conformance.programs import forking
from jobqueue_conformance.programs.process import Process
forking.PAYS_AFTER = int(sys.argv[3])
folder = Path(sys.argv[2])
process = Process("p", [sys.executable, sys.argv[1]], folder, {}, Notifier(), folder)
while not (line := process.stdout):
    pass
print(process.popen.pid, line, flush=True)
os.kill(os.getpid(), 9)
"""


TALKER = """
import sys
for line in sys.stdin:
    print(sys.argv, line, end="", flush=True)
sys.exit("no more")
"""


@pytest.fixture(params=["from-the-beginning", "forked"], autouse=True)
def forked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether programs are forked, which makes no difference."""
    is_forked: bool = request.param == "forked"
    monkeypatch.setattr(forking, "PAYS_AFTER", -1 if is_forked else sys.maxsize)
    return is_forked


def start(
    program: str, notifier: Notifier, folder: Path, *, talks: bool = False, **environment: str
) -> Process:
    """A Python program under test."""
    (folder / "program.py").write_text(program)
    command = [sys.executable, "program.py", "its argument"]
    return Process("server", command, folder, environment, notifier, folder, talks=talks)


def exists(pid: int) -> bool:
    """Whether a process with this number runs, and is not a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" not in status.read_text()


def test_the_environment_is_what_the_suite_says(
    notifier: Notifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the user's own settings reaches what is under test."""
    monkeypatch.setenv("JOBQUEUE_CONCURRENCY", "9")
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere")
    show = "import os; print({k: v for k, v in os.environ.items() if k[:5] in ('JOBQU', 'REDIS')})"

    process = start(show, notifier, tmp_path, JOBQUEUE_QUEUE="q")
    process.wait_exit()

    assert process.stdout == "{'JOBQUEUE_QUEUE': 'q'}\n"
    process.end()


def test_status_69_is_unsupported_with_its_reason(notifier: Notifier, tmp_path: Path) -> None:
    """A program that can't run here isn't a failure, and gives its reason."""
    process = start("import sys; print('no jq', file=sys.stderr); sys.exit(69)", notifier, tmp_path)
    process.wait_exit()

    with pytest.raises(Unsupported, match="the server can't run here: no jq"):
        process.check_can_run()
    process.end()


def test_another_status_is_explained(notifier: Notifier, tmp_path: Path) -> None:
    """A program that exits at once is a set-up error that quotes its last words."""
    process = start("raise KeyError('REDIS_URL')", notifier, tmp_path)
    process.wait_exit()

    with pytest.raises(SetupError, match=r"the server exited with 1; its stderr: KeyError"):
        process.check_can_run()
    process.end()


def test_a_command_that_is_none_is_explained(notifier: Notifier, tmp_path: Path) -> None:
    """A command that can't be started is a set-up error that names it."""
    with pytest.raises(SetupError, match=r"\['no-such-program'\] can't be started"):
        Process("server", ["no-such-program"], tmp_path, {}, notifier, tmp_path)


def test_sigterm_goes_to_the_process_and_sigkill_to_its_group(
    notifier: Notifier, tmp_path: Path
) -> None:
    """SIGTERM ends the process that was started, and the kill ends what it left behind."""
    process = start(WITH_CHILD, notifier, tmp_path)
    child = int(notifier.wait(lambda: process.stdout, "the child"))

    process.terminate()
    status = process.wait_exit()
    survived = exists(child)
    process.kill()

    assert status == -signal.SIGTERM
    assert process.explain_exit().startswith("the server was ended by SIGTERM")
    assert survived
    notifier.wait(lambda: not exists(child), "the child to end")
    process.end()


def test_a_signal_is_delivered_before_the_test_goes_on(notifier: Notifier, tmp_path: Path) -> None:
    """Waiting for a signal's delivery returns when it no longer pends, also where the process lives on."""
    ignore = (
        "import signal, time; signal.signal(15, print); print('on', flush=True); time.sleep(60)"
    )
    process = start(ignore, notifier, tmp_path)
    notifier.wait(lambda: process.stdout, "the handler")

    process.terminate()
    process.wait_signal_delivered()

    assert process.running
    process.end()


def test_a_program_talks_through_pipes(notifier: Notifier, tmp_path: Path) -> None:
    """What is written to its input is answered on its output, which ends with it."""
    process = start(TALKER, notifier, tmp_path, talks=True)
    stdin, stdout = process.popen.stdin, process.popen.stdout
    assert stdin is not None
    assert stdout is not None

    stdin.write(b"a line\n")
    stdin.close()

    assert stdout.read() == b"['program.py', 'its argument'] a line\n"
    assert process.wait_exit() == 1
    assert process.stderr == "no more\n"
    process.end()


def test_a_program_has_nothing_of_the_kits(notifier: Notifier, tmp_path: Path) -> None:
    """It begins a session, in its folder, as `__main__`, and has three descriptors."""
    show = """
import os, sys
fields = os.getsid(0) == os.getpid(), os.getcwd(), sys.path[0], __file__, __name__, sys.modules["__main__"].show
print(fields, os.listdir("/proc/self/fd"), "jobqueue_conformance" in sys.modules)
""".replace("import os", "show = 1\nimport os")
    process = start(show, notifier, tmp_path)
    process.wait_exit()

    folder = str(tmp_path)
    fields = True, folder, folder, f"{folder}/program.py", "__main__", 1
    assert process.stdout == f"{fields} ['0', '1', '2', '3'] False\n"
    process.end()


def test_a_traceback_begins_with_the_program(notifier: Notifier, tmp_path: Path) -> None:
    """What an uncaught exception shows is the program's, and no more."""
    process = start("def fail():\n    raise KeyError('a name')\nfail()\n", notifier, tmp_path)
    process.wait_exit()

    first, place, *_, last = process.stderr.splitlines()
    assert first == "Traceback (most recent call last):"
    assert place == f'  File "{tmp_path}/program.py", line 3, in <module>'
    assert last == "KeyError: 'a name'"
    process.end()


def test_which_program_is_forked(notifier: Notifier, tmp_path: Path, *, forked: bool) -> None:
    """A script is forked, but for one with variables of its own, which the interpreter may read."""
    plain = start("", notifier, tmp_path)
    own = start("", notifier, tmp_path, LC_ALL="C")

    assert isinstance(plain.popen, forking.Forked) == forked
    assert not isinstance(own.popen, forking.Forked)
    for process in (plain, own):
        process.wait_exit()
        process.end()


def test_it_dies_with_the_kit(notifier: Notifier, tmp_path: Path) -> None:
    """When the kit is killed, so are the processes that it started, and theirs."""
    (tmp_path / "program.py").write_text(WITH_CHILD)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    kit = subprocess.run(
        [sys.executable, "-c", KIT, "program.py", str(tmp_path), str(forking.PAYS_AFTER)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    started, child = map(int, kit.stdout.split())

    assert kit.returncode == -signal.SIGKILL
    notifier.wait(lambda: not exists(started) and not exists(child), "both to end")


def test_an_exit_that_nobody_asked_for_is_a_failure() -> None:
    """What ends by itself fails the test's own requirement, and is not a set-up error."""
    assert issubclass(Exited, AssertionError)
    assert not issubclass(SetupError, AssertionError)
