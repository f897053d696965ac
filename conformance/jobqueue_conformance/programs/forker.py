"""Forks Python programs from a process that has imported redis-py, as this import takes most of their start.

`forking` runs it, with a socket as its standard input. For each program it receives four descriptors: the program's
standard input, output and error, and a socket on which the program is described by a line of JSON; its process and, in
the end, its exit status are told there, a line each. A program's own modules are never imported ahead.
"""

import asyncio  # noqa: F401 - imported ahead
import gc
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

with suppress(ImportError):
    import redis  # noqa: F401 - imported ahead


def fork_programs(kit: socket.socket) -> dict[str, Any]:
    """Fork until the kit has gone; return only in a program's process, with what describes it."""
    signal.signal(
        signal.SIGCHLD, signal.SIG_IGN
    )  # nobody waits for those who wait for the programs
    gc.freeze()  # imported objects are never garbage: no child has to visit, and so to copy, them
    while descriptors := socket.recv_fds(kit, 1, 4)[1]:
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            kit.close()
            return fork_program(*descriptors)
        for each in descriptors:
            os.close(each)
    os._exit(0)


def fork_program(stdin: int, stdout: int, stderr: int, channel: int) -> dict[str, Any]:
    """Fork one program, and tell its exit status; return only in its process."""
    kit = socket.socket(fileno=channel)
    described: dict[str, Any] = json.loads(kit.makefile("rb").readline())
    if process := os.fork():
        for each in (stdin, stdout, stderr):
            os.close(each)
        _, status = os.waitpid(process, 0)
        kit.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    os.setsid()
    kit.sendall(b"%d\n" % os.getpid())
    kit.close()
    for number, each in enumerate((stdin, stdout, stderr)):
        os.dup2(each, number)
        os.close(each)
    return described


if __name__ == "__main__":
    program = fork_programs(socket.socket(fileno=0))
    os.chdir(program["folder"])
    os.environ.clear()
    os.environ.update(program["environment"])
    sys.argv = program["arguments"]
    script = Path(sys.argv[0]).absolute()
    if not sys.flags.safe_path:
        sys.path[0] = str(script.parent)
    main = sys.modules["__main__"] = ModuleType("__main__")
    main.__file__ = str(script)
    # A traceback begins with the program, not with this file.
    sys.excepthook = lambda kind, error, trace: sys.__excepthook__(
        kind, error.with_traceback(trace and trace.tb_next), error.__traceback__
    )
    exec(compile(script.read_bytes(), script, "exec"), vars(main))  # noqa: S102 - it is a program
