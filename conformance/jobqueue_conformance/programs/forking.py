"""Starts Python programs sooner: by a process that has imported redis-py ahead, and forks them (see `forker`).

What an interpreter may read at its start, as a test's own variables or a command around it, is left to a start from the
beginning, and so are a run's first starts: the import ahead has to pay.
"""

import atexit
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import IO

FORKER = Path(__file__).with_name("forker.py")
PAYS_AFTER = 3  # starts of scripts by this process
_starts = count(1)


class Forked:
    """A program that was forked: what the kit needs of a `subprocess.Popen` that begins a session."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        inherited: Mapping[str, str],
        stdin: int,
        stdout: int | IO[bytes],
        stderr: IO[bytes],
    ) -> None:
        """Start a script; the arguments are those of `Popen`, and the variables that it has from the kit."""
        self.returncode: int | None = None
        self.stdin: IO[bytes] | None = None
        self.stdout: IO[bytes] | None = None
        if stdin == subprocess.PIPE:
            its_stdin, ours = os.pipe()
            self.stdin = os.fdopen(ours, "wb")
        else:
            its_stdin = os.open(os.devnull, os.O_RDONLY)
        if isinstance(stdout, int):
            ours, its_stdout = os.pipe()
            self.stdout = os.fdopen(ours, "rb")
        else:
            its_stdout = os.dup(stdout.fileno())
        channel, its_channel = socket.socketpair()
        with channel, its_channel:
            given = [its_stdin, its_stdout, stderr.fileno(), its_channel.fileno()]
            socket.send_fds(_forker(frozenset(inherited.items())), [b"!"], given)
            described = {"arguments": command[1:], "folder": str(cwd), "environment": dict(env)}
            channel.sendall(json.dumps(described).encode() + b"\n")
            self._told = channel.makefile("rb")
        os.close(its_stdin)
        os.close(its_stdout)
        self.pid = int(self._told.readline())

    def wait(self) -> int:
        """Wait until it has exited, and return its status."""
        with self._told:
            self.returncode = int(self._told.readline())
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has exited."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def pays(command: Sequence[str], own: Mapping[str, str]) -> bool:
    """Whether this start is better forked.

    Args:
        command: what is started.
        own: variables that the program alone has, and an interpreter may read.
    """
    first, *rest = command
    script = first == sys.executable and rest and rest[0].endswith(".py")
    return bool(script) and not own and next(_starts) > PAYS_AFTER


@cache
def _forker(inherited: frozenset[tuple[str, str]]) -> socket.socket:
    """What reaches the process that forks programs with these variables; it ends when this is closed."""
    near, far = socket.socketpair()
    with far:
        process = subprocess.Popen(
            [sys.executable, str(FORKER)],
            env=dict(inherited),
            stdin=far.fileno(),
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    atexit.register(process.wait)
    atexit.register(near.close)  # the last one is called first
    return near
