"""Several server processes under one parent: started, restarted when they die, stopped together.

The parent runs no jobs and has no connection to Redis, so no handler can crash it. What a server had
claimed when it died stays on its in-process list; the next server of the same name recovers it.
SIGTERM, SIGHUP or SIGINT stops every server gracefully; a SIGINT after that kills them all.

Each server's stdin is a pipe whose other end only the parent holds: when the parent dies, each
server reads the end of file and stops by itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from jobqueue.cli.terminal import Status

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Mapping, Sequence

_log = logging.getLogger("jobqueue.cli")

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 15.0
_HEALTHY_S = 30.0  # a server that ran this long didn't die because of how it was started


class Processes:
    """The servers of one `jobqueue serve --processes`.

    Args:
        command: The command line that starts a server.
        environments: The whole environment of each server, by its name in the log.
    """

    def __init__(
        self, command: Sequence[str], environments: Mapping[str, Mapping[str, str]]
    ) -> None:
        self._command = command
        self._environments = environments
        self._running: set[Process] = set()
        self._stopping = asyncio.Event()
        self._killed = False

    async def run(self) -> int:
        """Keep all servers running until a signal stops them, or until one can't be started.

        Returns:
            0 if all stopped gracefully, 130 if a SIGINT killed them, else their highest status.
        """
        loop = asyncio.get_running_loop()
        handlers = {signal.SIGTERM: self._stop, signal.SIGINT: self._interrupt}
        if hangup_ends():
            handlers[signal.SIGHUP] = self._stop
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        # The parent of this process may have blocked them, and the servers would inherit that.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers)
        statuses = await asyncio.gather(*map(self._keep, self._environments))
        return Status.INTERRUPTED if self._killed else max(statuses)

    async def _keep(self, key: str) -> int:
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        final = {Status.USAGE, Status.NO_REDIS}
        while not self._stopping.is_set():
            started_s = loop.time()
            status = await self._start(key)
            if self._stopping.is_set():
                if status >= 0:
                    return status
                # A server without a handler for SIGTERM hasn't claimed anything yet.
                return Status.DONE if status == -signal.SIGTERM else Status.FAILED
            if status in final:
                self._stop()
                return status
            final = {Status.USAGE}  # Redis was reachable before, so waiting for it makes sense
            if loop.time() - started_s >= _HEALTHY_S:
                pause_s = _FIRST_PAUSE_S
            _log.warning(
                "the server of %s %s; restarting it in %.2f s", key, _ending(status), pause_s
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return Status.DONE

    async def _start(self, key: str) -> int:
        """Start a server, and return its exit status."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._environments[key],
                stdin=subprocess.PIPE,
                start_new_session=True,  # a terminal's Ctrl-C reaches the parent alone
            )
        except OSError as error:  # the machine is out of memory or processes
            _log.error("can't start the server of %s: %s", key, error)
            return Status.FAILED
        _log.info("started the server of %s as process %d", key, process.pid)
        self._running.add(process)
        if self._stopping.is_set():  # by a signal that arrived during the start
            self._signal()
        status = await process.wait()
        self._running.discard(process)
        return status

    def _interrupt(self) -> None:
        self._killed = self._stopping.is_set()
        self._stop()

    def _stop(self) -> None:
        _log.info("stopping %d servers", len(self._running))
        self._stopping.set()
        self._signal()

    def _signal(self) -> None:
        number = signal.SIGKILL if self._killed else signal.SIGTERM
        for process in self._running:
            # Process.send_signal may reap a child that has just ended; asyncio then reports 255 in
            # place of its status.
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)


def hangup_ends() -> bool:
    """Tell whether SIGHUP would end this process; nohup or the application may have changed that."""
    return signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def stop_with_parent() -> None:
    """Send SIGTERM to this process when its stdin ends, which means that its parent has died."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="jobqueue-parent", daemon=True).start()


def _ending(status: int) -> str:
    if status < 0:
        names = {number.value: number.name for number in signal.Signals}
        return (
            # Real-time signals have no names.
            f"was killed by {names.get(-status, f'signal {-status}')}"
        )
    return f"exited with status {status}"
