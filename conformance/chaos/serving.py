"""A server in a storm: many lives, under one name or each under its own.

It is started again whenever it has ended, as a process manager would. It hangs when it still runs long after SIGTERM.
"""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from jobqueue_conformance.programs.process import Process
from jobqueue_conformance.proxy.waiting import Notifier

from chaos.account import Run
from chaos.names import STORM, Times
from chaos.programs import Program
from chaos.relays import Relay

ENDS_WITHIN_S = 35.0  # server.stop.unreachable says 30
AGAIN_S = 0.3


class Server:
    """One server's lives; times are seconds since the storm began."""

    def __init__(
        self,
        program: Program,
        queue: str,
        relay: Relay,
        logs: Path,
        clock: Callable[[], float],
        times: Times = STORM,
    ) -> None:
        self.name = program.name
        self.lists: list[str] = []  # of all lives, the last one's at the end
        self.relay = relay
        self.lives = 0
        self.troubles: list[str] = []
        self.stops: list[int] = []  # the statuses with which it ended after SIGTERM
        self._notifier = Notifier()
        self._clock = clock
        self._program = program
        self._queue = queue
        self._logs = logs
        self._runs = logs / f"{self.name}.runs"
        self._environment = {
            "REDIS_URL": relay.url,
            "JOBQUEUE_QUEUE": queue,
            **times.environment,
            "CHAOS_RUNS": str(self._runs),
            "PYTHONFAULTHANDLER": "1",
        }
        self._stopping_since_s: float | None = None
        self._again_at_s: float | None = None
        self._staying_down = False
        self._start()

    def kill(self, until_s: float) -> None:
        """SIGKILL; it is started again at a later moment."""
        self._process.kill()
        self._stopping_since_s = None
        self._again_at_s = until_s

    def terminate(self) -> None:
        """SIGTERM; it has to end, and is started again then."""
        if self._process.running and self._stopping_since_s is None:
            self._stopping_since_s = self._clock()
            self._process.terminate()

    def freeze(self) -> None:
        """SIGSTOP."""
        self._process.popen.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT; a stop has its whole time again."""
        self._process.popen.send_signal(signal.SIGCONT)
        self.forgive()

    def forgive(self) -> None:
        """Restart the time limit of a stop, since something kept it from ending."""
        if self._stopping_since_s is not None:
            self._stopping_since_s = self._clock()

    def look(self) -> None:
        """See whether it has ended or hangs, and start it again where it is time."""
        now_s = self._clock()
        if self._process.running:
            if (
                self._stopping_since_s is not None
                and now_s - self._stopping_since_s > ENDS_WITHIN_S
            ):
                self._hang()
            return
        if self._stopping_since_s is not None:
            self.stops.append(self._process.status or 0)
            self._stopping_since_s = None
            self._again_at_s = now_s
        if self._again_at_s is None:
            self._again_at_s = now_s + AGAIN_S
            # Without Redis it may end at its start (server.connection.start).
            if self.relay.connected.is_set() and not self.relay.refused:
                self.troubles.append(f"at {now_s:.1f} s, by itself, {self._process.explain_exit()}")
        if now_s >= self._again_at_s and not self._staying_down:
            self._start()

    def stop_for_good(self) -> None:
        """SIGTERM at the end: nothing is in its way, so it has to end with 0."""
        self._staying_down = True
        self.terminate()

    @property
    def serving(self) -> bool:
        """Whether it runs, is past its start, and isn't to stop."""
        return (
            self._process.running
            and self.relay.connected.is_set()
            and self._stopping_since_s is None
        )

    @property
    def ended(self) -> bool:
        """Whether it doesn't run."""
        return not self._process.running

    def check_last_stop(self) -> None:
        """Say where it ended with another status than 0 although nothing was wrong (server.stop.exit)."""
        if self._process.status:
            self.troubles.append(f"at the end, {self._process.explain_exit()}")

    def end(self) -> None:
        """Leave nothing of it."""
        self._process.end()

    def runs(self, began_s: float) -> Iterator[Run]:
        """What its handler recorded; nothing where it isn't one that records."""
        if self._runs.exists():
            for line in self._runs.read_text().splitlines():
                job, process, at_s = line.split()
                yield Run(int(job), self.name, int(process), float(at_s) - began_s)

    def _hang(self) -> None:
        self.troubles.append(
            f"{self.name} still runs {ENDS_WITHIN_S:g} s after SIGTERM, at {self._clock():.1f} s (a hang)"
        )
        os.kill(self._process.popen.pid, signal.SIGABRT)  # Python then writes where it hangs
        self._notifier.happens(lambda: not self._process.running, 2.0)
        self.kill(self._clock())

    def _start(self) -> None:
        self.lives += 1
        processor = f"{self.name}-{self.lives}" if self._program.fresh else self.name
        in_process = f"{self._queue}:in-process:{processor}"
        if in_process not in self.lists:
            self.lists.append(in_process)
        self._again_at_s = None
        self.relay.expect()
        self._process = Process(
            self.name,
            self._program.command,
            self._program.folder,
            {
                **self._environment,
                "JOBQUEUE_PROCESSOR": processor,
                "JOBQUEUE_IN_PROCESS": in_process,
            },
            self._notifier,
            self._logs,
        )
