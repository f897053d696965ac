"""A client under test: JSON lines into its driver, JSON lines out of it."""

import json
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jobqueue_conformance.programs.process import Exited, Process, SetupError
from jobqueue_conformance.proxy.events import STDIN, STDOUT
from jobqueue_conformance.proxy.proxy import Endpoint, Proxy
from jobqueue_conformance.proxy.waiting import Hung, Notifier
from jobqueue_conformance.spec import data
from jobqueue_conformance.spec.verdicts import fail


@dataclass(frozen=True)
class Outcome:
    """How a job was settled, as the driver wrote it."""

    seq: int
    kind: Literal["result", "error", "timeout"]
    value: Any = None
    code: str | None = None
    message: str | None = None
    data: Any = None


class ClientProcess(Process):
    """One run of a client's driver, from its start to its exit."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: dict[str, str],
        *,
        notifier: Notifier,
        output: Path,
        proxy: Proxy,
        endpoint: Endpoint,
    ) -> None:
        self.endpoint = endpoint
        self.lines: list[Outcome] = []
        self._proxy = proxy
        self.handles: dict[int, str] = {}
        self._submitted = 0
        self._fault: str | None = None
        endpoint.begin()
        super().__init__(endpoint.who, command, folder, environment, notifier, output, talks=True)
        self._reader = threading.Thread(
            target=self._read, name=f"{endpoint.who} lines", daemon=True
        )
        self._reader.start()

    def submit(
        self,
        method: str,
        parameters: Any = None,
        timeout_ms: float | None = None,
        expires_in_ms: float | None = None,
        keep_ms: float | None = None,
        *,
        detached: bool = False,
    ) -> int:
        """Run a job in it, and return the seq that its outcome will have, and its handle if it is detached."""
        asked = {"timeout_ms": timeout_ms, "expires_in_ms": expires_in_ms, "keep_ms": keep_ms}
        options: dict[str, Any] = {name: each for name, each in asked.items() if each is not None}
        if detached:
            options["detached"] = True
        return self._write({"method": method, "parameters": parameters, **options})

    def collect(self, handle: str, timeout_ms: float) -> int:
        """Have it collect the result of a job, and return the seq that the outcome will have."""
        return self._write({"collect": handle, "timeout_ms": timeout_ms})

    def _write(self, asked: dict[str, Any]) -> int:
        self._submitted += 1
        written = json.dumps({"seq": self._submitted, **asked})
        self._proxy.note(self.name, STDIN, written)
        assert self.popen.stdin is not None
        try:
            self.popen.stdin.write(written.encode() + b"\n")
            self.popen.stdin.flush()
        except BrokenPipeError:
            self.wait_exit()
            self.check()
        return self._submitted

    def outcomes(self, seq: int) -> list[Outcome]:
        """Every outcome of this job until now; more than one is a fault."""
        return [each for each in list(self.lines) if each.seq == seq]

    def outcome(
        self, seq: int, deadline_s: float | None = None, requirement: str | None = None
    ) -> Outcome:
        """Wait for the outcome of this job, without which the requirement is broken."""

        def settled() -> Outcome | None:
            found = self.outcomes(seq)
            if not found:
                self.check()
            return found[0] if found else None

        try:
            return self._notifier.wait(settled, f"the {self.name} to settle job {seq}", deadline_s)
        except Hung as hung:
            if requirement is None:
                raise
            fail(requirement, expected=hung.expected, got=hung.got)

    def handle(self, seq: int) -> str:
        """Wait for the handle of this job."""

        def given() -> bool:
            if seq not in self.handles:
                self.check()
            return seq in self.handles

        self._notifier.wait(given, f"the {self.name} to give the handle of job {seq}")
        return self.handles[seq]

    def close(self) -> int:
        """End its input, and wait until it has finished and exited."""
        assert self.popen.stdin is not None
        with suppress(BrokenPipeError):
            self.popen.stdin.close()
        return self.wait_exit()

    def check(self) -> None:
        """Raise where no more outcomes can come."""
        if self._fault is not None:
            raise SetupError(self._fault)
        if not self.running and not self._reader.is_alive():
            if not self.endpoint.named_queue:
                self.check_can_run()
            raise Exited(self.explain_exit())

    def end(self) -> None:
        """Kill it, and close its pipes."""
        self.kill()
        self._reader.join()
        super().end()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            text = line.decode(errors="backslashreplace").rstrip("\n")
            self._proxy.note(self.name, STDOUT, text)
            try:
                self._take(text)
            except ValueError as error:
                self._fault = (
                    self._fault or f"the {self.name} wrote a line that is not an outcome: {error}"
                )
            self._notifier.notify()
        self._notifier.notify()

    def _take(self, text: str) -> None:
        parsed = _response(text)
        if "handle" in parsed:
            self.handles[parsed["seq"]] = parsed["handle"]
        else:
            self.lines.append(_outcome(parsed))


def _response(line: str) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{line[:200]!r} is not valid JSON") from error
    for mistake in data.validator("driver-response").iter_errors(parsed):
        raise ValueError(f"{line[:200]}: {mistake.message}")
    return parsed


def _outcome(parsed: dict[str, Any]) -> Outcome:
    if "result" in parsed:
        return Outcome(parsed["seq"], "result", value=parsed["result"])
    if "error" in parsed:
        return Outcome(
            parsed["seq"],
            "error",
            code=parsed["error"]["code"],
            message=parsed["error"]["message"],
            data=parsed["error"].get("data"),
        )
    return Outcome(parsed["seq"], "timeout")
