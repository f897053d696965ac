"""A client in a storm: it pushes jobs at a pace and records the outcome of each.

Jobs are numbered over all clients; the number is the job's `seq`, and stands in its parameters.
"""

import json
import threading
import time
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
    """One client's process and its two threads; the client itself is never killed."""

    def __init__(
        self, program: Program, queue: str, relay: Relay, logs: Path, first: int, step: int
    ) -> None:
        self.name = program.name
        self.relay = relay
        self.pushed: list[int] = []
        self.settled: dict[int, str] = {}
        self.troubles: list[str] = []
        self._numbers = count(first, step)
        self._step = step
        self._notifier = Notifier()
        self._stop = threading.Event()
        self._process = Process(
            self.name,
            program.command,
            program.folder,
            {"REDIS_URL": relay.url, "JOBQUEUE_QUEUE": queue},
            self._notifier,
            logs,
            talks=True,
        )
        self._writer = threading.Thread(target=self._write, name=f"{self.name} in", daemon=True)
        self._reader = threading.Thread(target=self._read, name=f"{self.name} out", daemon=True)
        self._reader.start()
        self._writer.start()

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
        stdin = self._process.popen.stdin
        assert stdin is not None
        while not self._stop.wait(BETWEEN_S):
            if self.waiting >= IN_FLIGHT:
                continue
            number = next(self._numbers)
            line = {
                "seq": number,
                "method": "wait",
                "parameters": {"ms": number * 7 % LONGEST_MS, "storm": number},
            }
            if number // self._step % 2:
                line["timeout_ms"] = TIMEOUT_MS
            self.pushed.append(number)
            try:
                stdin.write(json.dumps(line).encode() + b"\n")
                stdin.flush()
            except OSError:
                self.troubles.append(f"{self.name} ended at {time.strftime('%X')}, by itself")
                return

    def _read(self) -> None:
        assert self._process.popen.stdout is not None
        for line in self._process.popen.stdout:
            said = json.loads(line)
            number = said["seq"]
            if number in self.settled:
                self.troubles.append(f"{self.name} settled job {number} twice (client.settle.once)")
            self.settled[number] = outcome(number, said)
            self._notifier.notify()


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
