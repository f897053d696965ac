"""Ends what the kit started, should the kit itself die.

A small process of its own reads which process groups live from a pipe; when the pipe closes, because the kit is
gone, it kills them. This works where a parent-death signal doesn't: for grandchildren, and outside Linux.
"""

import atexit
import subprocess
import sys
from functools import cache

PROGRAM = """
import os, signal, sys
for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(ignored, signal.SIG_IGN)
living = set()
for line in sys.stdin:
    what, group = line.split()
    (living.add if what == "watch" else living.discard)(int(group))
for group in living:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""


@cache
def _process() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", PROGRAM],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    atexit.register(process.communicate)
    return process


def _say(line: str) -> None:
    pipe = _process().stdin
    assert pipe is not None
    pipe.write(line + "\n")
    pipe.flush()


def watch(group: int) -> None:
    """End this process group when the kit dies."""
    _say(f"watch {group}")


def forget(group: int) -> None:
    """The group has ended, and the system may soon reuse its number."""
    _say(f"forget {group}")
