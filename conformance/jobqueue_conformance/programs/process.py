"""A program under test: started with its environment, signalled, ended with its whole group.

Its output goes to files that are shown when a test fails. It dies with the kit.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from jobqueue_conformance.programs import forking, watchdog
from jobqueue_conformance.proxy.waiting import Budget, Notifier
from jobqueue_conformance.spec.verdicts import Unmet, Unsupported

CANNOT_RUN_HERE = 69
OUTPUT_SHOWN = 4000
ACTS_WITHIN_S = 0.05  # from the interruption to the language's own handler, while all threads sleep
NEVER_SLEEPS_S = 1.0  # a program that looks again and again without a pause has acted by then
OURS = ("REDIS_URL", "JOBQUEUE_", "PYTEST_", "COV_")


class SetupError(Exception):
    """The program under test can't be tested; the message says what is wrong with its command or adapter."""


class Exited(Unmet):
    """The program under test has exited, although the kit didn't end it."""

    def __init__(self, how: str) -> None:
        super().__init__(how, expected="a program that goes on", got=how)


class Process:
    """One run of one program, from its start to its exit."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        notifier: Notifier,
        output: Path,
        *,
        talks: bool = False,
    ) -> None:
        """Start it; its output goes to files in the folder `output`, or through pipes where it `talks`."""
        self.name = name
        self.command = command
        self.redis_url = environment.get("REDIS_URL", "")
        self.settings = dict(environment)
        self.started_s = time.monotonic()
        self._notifier = notifier
        file_name = name.replace("/", "_")
        self._stdout, self._stderr = output / f"{file_name}.stdout", output / f"{file_name}.stderr"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(OURS)}
        visible = {**inherited, **environment}
        own = {key: value for key, value in environment.items() if not key.startswith(OURS)}
        self.popen: subprocess.Popen[bytes] | forking.Forked
        try:
            with self._stdout.open("ab") as stdout, self._stderr.open("ab") as stderr:
                stdin = subprocess.PIPE if talks else subprocess.DEVNULL
                out = subprocess.PIPE if talks else stdout
                if forking.pays(command, own):
                    self.popen = forking.Forked(
                        command,
                        cwd=folder,
                        env=visible,
                        inherited=inherited,
                        stdin=stdin,
                        stdout=out,
                        stderr=stderr,
                    )
                else:
                    self.popen = subprocess.Popen(
                        command,
                        cwd=folder,
                        env=visible,
                        stdin=stdin,
                        stdout=out,
                        stderr=stderr,
                        start_new_session=True,
                    )
        except OSError as error:
            raise SetupError(
                f"the {name}'s command {list(command)} can't be started: {error}"
            ) from error
        watchdog.watch(self.popen.pid)
        self._waiter = threading.Thread(target=self._await_exit, name=f"{name} exit", daemon=True)
        self._waiter.start()

    @property
    def running(self) -> bool:
        """Whether it has not exited."""
        return self._waiter.is_alive() and self.popen.returncode is None

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self.popen.returncode

    @property
    def stdout(self) -> str:
        """The end of what it wrote to its standard output, where that is a file."""
        return _end_of(self._stdout)

    @property
    def stderr(self) -> str:
        """The end of what it wrote to its standard error."""
        return _end_of(self._stderr)

    def terminate(self) -> None:
        """Send SIGTERM to the process that was started, and to no other."""
        self.popen.send_signal(signal.SIGTERM)

    def wait_signal_delivered(self) -> None:
        """Wait until the process has been interrupted by what was sent to it, and has acted: it sleeps again."""
        self._notifier.wait(self._nothing_pending, f"the {self.name} to be interrupted")
        self.wait_asleep()

    def wait_asleep(self) -> None:
        """Wait until it has read what reached it, and has acted: all of its threads sleep, for a moment."""
        asleep = Budget(ACTS_WITHIN_S)

        def acted() -> bool:
            nonlocal asleep
            if not self._asleep():
                asleep = Budget(ACTS_WITHIN_S)
            return asleep.left_s() <= 0

        self._notifier.happens(acted, NEVER_SLEEPS_S)

    def _asleep(self) -> bool:
        """Whether no thread of the process wants a processor; true where the system doesn't say."""
        states = []
        for task in Path(f"/proc/{self.popen.pid}/task").glob("*/stat"):
            with suppress(OSError):  # it has just ended
                states.append(task.read_text().rpartition(")")[2].split()[0])
        return not set(states) & {"R", "D"}

    def _nothing_pending(self) -> bool:
        try:
            status = Path(f"/proc/{self.popen.pid}/status").read_text()
        except OSError:
            return True  # no such file on this system, or the process is gone
        pending = [line.split()[1] for line in status.splitlines() if "Pnd:" in line]
        return not any(int(bits, 16) >> (signal.SIGTERM - 1) & 1 for bits in pending)

    def kill(self) -> None:
        """Send SIGKILL to its whole group, and wait until it has ended."""
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self._waiter.join()
        watchdog.forget(self.popen.pid)

    def wait_exit(self, deadline_s: float | None = None) -> int:
        """Wait until it has exited, and return its status."""
        self._notifier.wait(lambda: not self.running, f"the {self.name} to exit", deadline_s)
        assert self.status is not None
        return self.status

    def explain_exit(self) -> str:
        """One sentence: how it ended, and the last line of its stderr."""
        last = self.stderr.strip().splitlines()[-1:] or ["(nothing)"]
        if self.status is not None and self.status < 0:
            ended = f"was ended by {signal.Signals(-self.status).name}"
        else:
            ended = f"exited with {self.status}"
        return f"the {self.name} {ended}; its stderr: {last[0]}"

    def check_can_run(self) -> None:
        """Raise where it has exited before it did anything."""
        if self.running:
            return
        if self.status == CANNOT_RUN_HERE:
            last = self.stderr.strip().splitlines()[-1:] or ["it gives no reason"]
            raise Unsupported(f"the {self.name} can't run here: {last[0]}")
        raise SetupError(self.explain_exit() + ", before its first command")

    def end(self) -> None:
        """Kill it, and close its pipes."""
        self.kill()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _await_exit(self) -> None:
        self.popen.wait()
        self._notifier.notify()


def _end_of(path: Path) -> str:
    with path.open("rb") as written:
        size = written.seek(0, os.SEEK_END)
        written.seek(max(size - OUTPUT_SHOWN, 0))
        return written.read().decode(errors="replace")
