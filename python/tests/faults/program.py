"""Python programs in processes of their own, for tests that may hang, fork, die or trace.

A program is a piece of source. It is given the URL of Redis as `sys.argv[1]`, asserts for itself,
and says where it hangs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap

DEADLINE_S = 15.0  # only bounds what hangs


def run_program(source: str, *arguments: str, within: float = DEADLINE_S) -> str:
    """Run a program to its end, and return what it has printed, on stdout and stderr together.

    Raises:
        AssertionError: It hangs, or ends with another status than 0.
    """
    command = [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(source), *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as program:
        try:
            output, _ = program.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            program.send_signal(signal.SIGABRT)  # which has it print where each thread stands
            try:
                output, _ = program.communicate(timeout=1)
            except subprocess.TimeoutExpired:  # a child of it keeps its output open
                output = "(no word from it)"
            raise AssertionError(f"the program hangs:\n{output}") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
    assert program.returncode == 0, f"the program ended with {program.returncode}:\n{output}"
    return output
