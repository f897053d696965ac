"""Interrupts every step of a call, by Control-C or by a signal handler, in a separate process.

A step is where CPython looks for signals: the begin of a Python function, and the return from one
in C. A profile function counts the steps of the main thread and interrupts the given one, so that every
step is interrupted once, and no time matters.

One step of Python's own libraries is left out: since 3.14 an interruption between `with` and its block leaves the
lock of `threading` locked, after which no thread of any program starts.
"""

import re

from tests.faults.program import run_program

PRELUDE = """
import asyncio, contextlib, gc, logging, sys, threading, warnings
import jobqueue
from jobqueue import Client, ConnectionLost, Job, NotQueued, aio

URL = sys.argv[1]
OURS = jobqueue.__path__[0]

def unraisable(hook):
    if hook.exc_type is not KeyboardInterrupt:  # which Python drops in a finalizer
        sys.__unraisablehook__(hook)

sys.unraisablehook = unraisable

def act_at(number, call, act, *, ours=False):
    "Do a call, and act at one of its steps; False if it has no such step."
    left = number

    def count(frame, event, argument):
        nonlocal left
        own = frame.f_code.co_filename.startswith(OURS)
        locked = event == "c_return" and argument.__name__ == "__enter__" and not own
        if event in ("call", "c_return") and not locked and (own or not ours):
            left -= 1
            if left == 0:
                sys.setprofile(None)
                act()

    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(None)
    return left <= 0

def ctrl_c():
    raise KeyboardInterrupt

def interrupted(number, call, *, ours=False):
    try:
        return act_at(number, call, ctrl_c, ours=ours)
    except KeyboardInterrupt:
        return True

def require_no_threads():
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and thread.is_alive():
            thread.join(5)
            assert not thread.is_alive(), thread

def require_nothing_registered():
    gc.collect()
    left = [each for each in gc.get_objects() if isinstance(each, (Job, aio.Job))]
    assert not left, f"no caller has these jobs any more, but they are kept: {left[:3]}"

"""


def require_steps(source: str, url: str, at_least: int) -> None:
    """Run a program that prints how many steps it has interrupted, and require a number of them."""
    lines = "".join(f"{line[4:] or chr(10)}" for line in source.splitlines(keepends=True))
    output = run_program(PRELUDE + lines, url, within=60)
    assert re.fullmatch(r"\d+\n", output), output
    assert int(output) >= at_least, f"expected {at_least} steps or more, got {output}"
