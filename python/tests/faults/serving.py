"""Servers as threads, in the main thread and as programs, for tests that judge them from outside.

A wait ends when its event is there or can't come any more: a server that has ended answers nothing,
and one that still answers hasn't obeyed a stop. Deadlines only bound what hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobqueue import Server, aio

from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobqueue import Client, Job

KINDS = ("threads", "threads-4", "asyncio", "asyncio-4")
PATIENCE_S = 20.0  # only bounds what hangs
JOBS_OF_A_FENCE = 10  # a server that answers so many one after another wasn't stopped before

AnyServer = Server | aio.Server


def make(kind: str, source: Any, **options: Any) -> AnyServer:
    """Make a server of a kind."""
    settings = {"processor": "test", "block_timeout": 0.05, **options}
    concurrency = 4 if kind.endswith("4") else 1
    return (aio.Server if kind.startswith("asyncio") else Server)(
        source, concurrency=concurrency, **settings
    )


class Thread:
    """A server that runs in a thread of the test, and what it ended with."""

    def __init__(self, server: AnyServer) -> None:
        self.server = server
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            if isinstance(self.server, Server):
                self.server.run()
            else:
                asyncio.run(self.server.run())
        except BaseException as error:
            self.error = error

    @property
    def ended(self) -> bool:
        """Whether `run` has returned or raised."""
        return not self._thread.is_alive()

    def settled(self, job: Job) -> Job:
        """Wait until the job has an outcome, for as long as the server is there to give it one."""
        until(lambda: job.done() or self.ended, "an answer")
        assert job.done(), f"expected an answer, but the server has ended: {self.error!r}"
        return job

    def stop(self) -> None:
        """Stop it gracefully, and wait until it has."""
        self.server.stop()
        self._thread.join(PATIENCE_S)
        assert self.ended, "expected the server to stop, but it goes on"


def obeys(ended: Callable[[], bool], jobs: Client) -> bool:
    """Tell whether a server that was asked to stop ends, rather than answering job after job."""
    for _ in range(JOBS_OF_A_FENCE):
        job = jobs.run("echo")
        until(lambda job=job: job.done() or ended(), "an answer or the end")  # type: ignore[misc] # a default's type
        if ended():
            return True
    return False


def in_the_main_thread(
    servers: list[AnyServer],
    during: Callable[[Mapping[AnyServer, threading.Event]], None],
    **how: Any,
) -> None:
    """Run servers in this thread, as an application does, and call `during` in another meanwhile.

    Args:
        servers: One server of threads, or several of asyncio in one loop.
        during: Is given a function that tells whether a server has ended; afterwards all that still run are stopped.
        how: The arguments of `run`.
    """
    ends = {server: threading.Event() for server in servers}
    failures: list[BaseException] = []

    def watch() -> None:
        try:
            during(ends)
        except BaseException as error:
            failures.append(error)
        for server in servers:
            server.stop()

    async def serve(server: aio.Server) -> None:
        try:
            await server.run(**how)
        finally:
            ends[server].set()

    async def serve_all() -> None:
        await asyncio.gather(
            *(serve(server) for server in servers if isinstance(server, aio.Server))
        )

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        if isinstance(servers[0], Server):
            try:
                servers[0].run(**how)
            finally:
                ends[servers[0]].set()
        else:
            asyncio.run(serve_all())
    finally:
        watching.join()
    for failure in failures:
        raise failure


class Program:
    """A program in a session of its own, which nothing outlives that it started."""

    def __init__(self, *command: str, stderr: Path, **options: Any) -> None:
        self._stderr = stderr
        with stderr.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                stdout=subprocess.PIPE,
                stderr=file,
                stdin=options.pop("stdin", subprocess.DEVNULL),
                text=True,
                start_new_session=True,
                **options,
            )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._lines.put(line.strip())

    @property
    def stderr(self) -> str:
        """What it has written there until now."""
        return self._stderr.read_text(errors="backslashreplace")

    @property
    def ended(self) -> bool:
        """Whether it has."""
        return self.process.poll() is not None

    def line(self) -> str:
        """Wait for a line of its output."""
        try:
            return self._lines.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise AssertionError(f"expected a line, got none; stderr: {self.stderr}") from None

    def settled(self, job: Job) -> Job:
        """Wait until the job has an outcome, for as long as the program is there to give it one."""
        until(lambda: job.done() or self.ended, "an answer")
        assert job.done(), f"expected an answer, but the program has ended: {self.stderr}"
        return job

    def status(self) -> int:
        """Wait until it ends, and return its status."""
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"expected an end, but it goes on; stderr: {self.stderr}"
            ) from None

    def members(self) -> set[int]:
        """Return the processes of its session that are alive."""
        found = set()
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            except OSError:  # it has ended meanwhile
                continue
            if int(session) == self.process.pid and state != "Z":
                found.add(int(stat.parent.name))
        return found

    def kill(self) -> None:
        """End it and all that it started."""
        while members := self.members():  # one of them may be about to start another
            for member in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
        self.process.wait()
        self._reader.join()
        if self.process.stdout is not None:
            self.process.stdout.close()
