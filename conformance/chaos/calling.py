"""A client in a storm: it pushes jobs at a pace and records the outcome of each.

Jobs are numbered over all clients; the number is the job's `seq`, and stands in its parameters. Where results are kept,
half of the jobs are detached, and what a client that is killed was waiting for is collected by their handles.
"""

import json
import threading
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from jobqueue_conformance.programs.process import Process
from jobqueue_conformance.proxy.waiting import Notifier

from chaos.programs import Program
from chaos.relays import Relay

BETWEEN_S = 0.015
IN_FLIGHT = 24
TIMEOUT_MS = 10_000  # of every other job; those between have none
LONGEST_MS = 80
ENDS_WITHIN_S = 20.0


class Caller:
    """One client's process, or the one that came after it, and its two threads."""

    def __init__(
        self,
        program: Program,
        queue: str,
        relay: Relay,
        logs: Path,
        first: int,
        step: int,
        keep_s: float | None = None,
    ) -> None:
        """Push at once; `keep_s` is for how long results are kept, if they are."""
        self.name = program.name
        self.relay = relay
        self.pushed: list[int] = []
        self.settled: dict[int, str] = {}
        self.settled_at: dict[int, float] = {}
        self.collecting: set[int] = set()  # what a client that was killed had waited for
        self.troubles: list[str] = []
        self._queue = queue
        self._logs = logs
        self._keep_ms = keep_s and round(keep_s * 1000)
        self.handles: dict[int, str] = {}
        self._numbers = count(first, step)
        self._step = step
        self._notifier = Notifier()
        self._stop = threading.Event()
        self._writing = threading.Lock()
        self._writer = threading.Thread(target=self._write, name=f"{self.name} in", daemon=True)
        self._start(program)
        self._writer.start()

    def kill(self, heir: Program) -> None:
        """SIGKILL; another client takes its place, and collects by the handles that it has given."""
        with self._writing:
            self._process.kill()
            self._reader.join()
            self._process.end()
            self._start(heir)
            for number in self.pushed:
                if number in self.settled:
                    continue
                if number in self.handles:
                    self.collecting.add(number)
                    how = {"collect": self.handles[number], "timeout_ms": self._keep_ms}
                    self._say(number, how)
                else:
                    self._settle(number, "gone")

    @property
    def waiting(self) -> int:
        """How many jobs have no outcome yet."""
        return len(self.pushed) - len(self.settled)

    def stop_pushing(self) -> None:
        """Let it settle what it has pushed."""
        self._stop.set()

    def close(self) -> None:
        """End its input: it has to exit with 0, where no job that it never settles keeps it."""
        assert self._process.popen.stdin is not None
        self._writer.join(ENDS_WITHIN_S)
        if self._writer.is_alive():
            self.troubles.append(f"{self.name} doesn't read what it is to push (a hang)")
        else:
            self._process.popen.stdin.close()
            within_s = 0.0 if self.waiting else ENDS_WITHIN_S
            ended = self._notifier.happens(lambda: not self._process.running, within_s)
            if not ended and not self.waiting:
                self.troubles.append(
                    f"{self.name} still runs {ENDS_WITHIN_S:g} s after its input has ended (a hang)"
                )
        if self._process.status:
            self.troubles.append(self._process.explain_exit())
        self._process.kill()
        self._reader.join()

    def end(self) -> None:
        """Leave nothing of it."""
        self._stop.set()
        self._process.end()

    def _write(self) -> None:
        while not self._stop.wait(BETWEEN_S):
            if self.waiting >= IN_FLIGHT:
                continue
            number = next(self._numbers)
            parameters = {"ms": number * 7 % LONGEST_MS, "storm": number}
            with self._writing:
                self.pushed.append(number)
                try:
                    self._say(
                        number, {"method": "wait", "parameters": parameters, **self._how(number)}
                    )
                except OSError:
                    self.troubles.append(f"{self.name} ended at {time.strftime('%X')}, by itself")
                    return

    def _how(self, number: int) -> dict[str, object]:
        """How a job is called: half of them with a timeout."""
        timed = number // self._step % 2
        if self._keep_ms is None:
            return {"timeout_ms": TIMEOUT_MS} if timed else {}
        how = {"timeout_ms": self._keep_ms} if timed else {"detached": True}
        return {"keep_ms": self._keep_ms, **how}

    def _say(self, number: int, line: Mapping[str, object]) -> None:
        stdin = self._process.popen.stdin
        assert stdin is not None
        stdin.write(json.dumps({"seq": number, **line}).encode() + b"\n")
        stdin.flush()

    def _read(self, process: Process) -> None:
        assert process.popen.stdout is not None
        for line in process.popen.stdout:
            said = json.loads(line)
            number = said["seq"]
            if "handle" in said:
                self.handles[number] = said["handle"]
                continue
            how = outcome(number, said)
            if how == "lost" and self._keep_ms and number not in self.handles:
                how = "unanswered"  # so its push is, which no client can wait for (client.lost.settles)
            self._settle(number, how)

    def _settle(self, number: int, how: str) -> None:
        if number in self.settled:
            self.troubles.append(f"{self.name} settled job {number} twice (client.settle.once)")
        self.settled[number] = how
        self.settled_at[number] = time.monotonic()
        self._notifier.notify()

    def _start(self, program: Program) -> None:
        self._process = Process(
            self.name,
            program.command,
            program.folder,
            {"REDIS_URL": self.relay.url, "JOBQUEUE_QUEUE": self._queue},
            self._notifier,
            self._logs,
            talks=True,
        )
        self._reader = threading.Thread(
            target=self._read, args=(self._process,), name=f"{self.name} out", daemon=True
        )
        self._reader.start()


def outcome(number: int, said: dict[str, object]) -> str:
    """How the job was settled: result, timeout, lost, not-queued; or what is strange about it."""
    match said:
        case {"result": {"storm": returned}} if returned == number:
            return "result"
        case {"timeout": True}:
            return "timeout"
        case {"error": {"code": "connection-lost"}}:
            return "lost"
        case {"error": {"code": "not-queued"}}:
            return "not-queued"
    return json.dumps(said)
