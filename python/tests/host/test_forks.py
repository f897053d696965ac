"""A child that would leave what only its parent leaves: it ends there, by the status that it chose."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from jobqueue.host.forks import ParentOnly

class OddExit(SystemExit):
    code = property(lambda _: sys.exit(5))

def leave():
    %s

print("once")
child = 0
try:
    with ParentOnly():
        child = os.fork()
        if not child:
            leave()
finally:
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    else:
        print("a child has left")
"""


@pytest.mark.parametrize(
    "how,status,words",
    [
        ("return", 0, ""),
        ("raise SystemExit", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit(257)", 1, ""),
        ("sys.exit('no more')", 1, "no more\n"),
        ("raise OddExit", 1, ""),
        ("raise ValueError('bad')", 1, "ValueError: bad\n"),
        ("raise KeyboardInterrupt", 1, "KeyboardInterrupt\n"),
    ],
)
def test_a_child_ends_where_it_would_leave(how: str, status: int, words: str) -> None:
    """Nothing that it has inherited is written twice, and what it raised is on stderr."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM % how], capture_output=True, text=True, check=True
    )

    assert ended.stdout.split() == ["once", str(status)]
    assert ended.stderr.endswith(words)
    assert bool(ended.stderr) == bool(words)
