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
from jobqueue_conformance.proxy.waiting import Notifier
from jobqueue_conformance.spec import data


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
    ) -> int:
        """Run a job in it, and return the seq that its outcome will have."""
        self._submitted += 1
        line: dict[str, Any] = {"seq": self._submitted, "method": method, "parameters": parameters}
        if timeout_ms is not None:
            line["timeout_ms"] = timeout_ms
        if expires_in_ms is not None:
            line["expires_in_ms"] = expires_in_ms
        written = json.dumps(line)
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

    def outcome(self, seq: int, deadline_s: float | None = None) -> Outcome:
        """Wait for the outcome of this job."""

        def settled() -> Outcome | None:
            found = self.outcomes(seq)
            if not found:
                self.check()
            return found[0] if found else None

        return self._notifier.wait(settled, f"the {self.name} to settle job {seq}", deadline_s)

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
                self.lines.append(_outcome(text))
            except ValueError as error:
                self._fault = (
                    self._fault or f"the {self.name} wrote a line that is not an outcome: {error}"
                )
            self._notifier.notify()
        self._notifier.notify()


def _outcome(line: str) -> Outcome:
    try:
        parsed = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{line[:200]!r} is not valid JSON") from error
    for mistake in data.validator("driver-response").iter_errors(parsed):
        raise ValueError(f"{line[:200]}: {mistake.message}")
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
