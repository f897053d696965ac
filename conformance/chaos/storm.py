"""Runs a storm: starts all programs, injects the faults of a schedule, waits for the end, returns the evidence."""

import heapq
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import redis
from jobqueue_conformance.proxy.waiting import Hung, Notifier

from chaos import names
from chaos.account import Disturbance, Evidence, Kill, Return
from chaos.calling import TIMEOUT_MS, Caller
from chaos.durable_redis import DurableRedis
from chaos.names import STORM, Times
from chaos.programs import Program
from chaos.pulse import Pulse
from chaos.relays import Relay, Relays
from chaos.schedule import REDIS, Fault
from chaos.serving import ENDS_WITHIN_S, Server

QUEUE = "storm"
STARTS_WITHIN_S = 60.0
CALM_WITHIN_S = 60.0
SETTLED_WITHIN_S = TIMEOUT_MS / 1000 + 2
PROGRESS_S = 5.0
LOOK_AGAIN_S = 0.05


class CannotStart(Exception):
    """A program never came to Redis; the message says which."""


class Storm:
    """One storm; `say` gets a line now and then."""

    def __init__(
        self,
        binary: str,
        servers: Sequence[Program],
        clients: Sequence[Program],
        logs: Path,
        say: Callable[[str], None],
        times: Times = STORM,
        keep_s: float | None = None,
    ) -> None:
        self.troubles: list[str] = []
        self.injected: Counter[str] = Counter()
        self._say = say
        self._times = times
        self._logs = logs
        self._notifier = Notifier()
        self._kills: list[Kill] = []
        self._heirs = {program.name: clients[number - 1] for number, program in enumerate(clients)}
        self._keep_s = keep_s
        self._returns: list[Return] = []
        self._felt: list[Disturbance] = []
        self._began_s = time.monotonic()
        self._ends: list[tuple[float, int, Callable[[], None]]] = []
        self._last_said_s = 0.0
        self._last_fault = "none yet"
        self._stack = ExitStack()
        self._pulse = Pulse()
        with self._stack:  # who starts half of it leaves nothing of that
            self._stack.callback(self._pulse.end)
            self._redis = DurableRedis(binary)
            self._stack.callback(self._redis.close)
            self._relays = Relays(self._redis.port)
            self._stack.callback(self._relays.end)
            self._admin = self._redis.connect()
            self._servers: dict[str, Server] = {}
            for program in servers:
                relay = self._relays.make(program.name)
                self._servers[program.name] = Server(
                    program, QUEUE, relay, logs, self._now_s, times
                )
                self._stack.callback(self._servers[program.name].end)
            self._clients: dict[str, Caller] = {}
            for number, program in enumerate(clients):
                relay = self._relays.make(program.name)
                self._clients[program.name] = Caller(
                    program, QUEUE, relay, logs, number, len(clients), keep_s
                )
                self._stack.callback(self._clients[program.name].end)
            for relay in self._relays.all:
                if not relay.connected.wait(STARTS_WITHIN_S):
                    raise CannotStart(f"{relay.name} never connected to Redis; its logs: {logs}")
            self._stack = self._stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._redis.save_to(self._logs)
        self._stack.close()

    def rage(self, faults: Sequence[Fault], seconds: float) -> Evidence:
        """Inject the faults at their times, then check what is left."""
        self._began_s = time.monotonic()
        with (self._logs / "faults.log").open("w") as log:
            for fault in faults:
                self._work_until(fault.at_s)
                log.write(f"{fault}\n")
                log.flush()
                self._strike(fault)
            self._work_until(seconds)
        self._say(f"{self._now_s():5.0f} s: no more faults; waiting for the calm")
        self._calm()
        return self._evidence()

    def _now_s(self) -> float:
        return time.monotonic() - self._began_s

    def _work_until(self, at_s: float) -> None:
        """End faults, start what has ended, and tell how it goes, until this moment."""
        while True:
            now_s = self._now_s()
            while self._ends and self._ends[0][0] <= now_s:
                heapq.heappop(self._ends)[2]()
            self._look()
            if now_s >= at_s:
                return
            next_s = min([at_s, *(end[0] for end in self._ends[:1])])
            self._notifier.pause(min(max(next_s - self._now_s(), 0.0), LOOK_AGAIN_S))

    def _look(self) -> None:
        for server in self._servers.values():
            server.look()
        if self._now_s() - self._last_said_s >= PROGRESS_S:
            self._last_said_s = self._now_s()
            pushed = sum(len(each.pushed) for each in self._clients.values())
            waiting = sum(each.waiting for each in self._clients.values())
            lives = sum(each.lives for each in self._servers.values())
            self._say(
                f"{self._now_s():5.0f} s: {pushed:,} pushed, {waiting} waiting,"
                f" {self.injected.total()} faults, {lives} lives of servers; last: {self._last_fault}"
            )

    def _strike(self, fault: Fault) -> None:
        self.injected[fault.kind] += 1
        self._last_fault = f"{fault.kind} {fault.target}"
        server = self._servers.get(fault.target)
        self._felt += [
            Disturbance(name, self._now_s(), self._now_s() + fault.lasts_s)
            for name in self._clients
            if fault.target in {name, REDIS}
        ]
        match fault.kind:
            case "kill":
                assert server is not None
                self._kills.append(Kill(fault.target, self._now_s()))
                server.kill(fault.at_s + fault.lasts_s)
            case "term":
                assert server is not None
                server.terminate()
            case "freeze":
                assert server is not None
                server.freeze()
                self._later(fault, server.thaw)
            case "refuse":
                self._relay(fault).close("refuse")
                self._later(fault, lambda: self._reopen(fault))
            case "cut" | "cut-one":
                self._cut(self._relay(fault), every=fault.kind == "cut")
            case "pause":
                self._admin.client_pause(round(fault.lasts_s * 1000))
            case "kill-client":
                self._clients[fault.target].kill(self._heirs[fault.target])
            case "restart" | "outage":
                self._redis.kill()
                for relay in self._relays.all:  # whose listeners hide that Redis doesn't listen
                    relay.close("restart")
                self._later(fault, self._start_redis)

    def _later(self, fault: Fault, end: Callable[[], None]) -> None:
        heapq.heappush(self._ends, (self._now_s() + fault.lasts_s, self.injected.total(), end))

    def _relay(self, fault: Fault) -> Relay:
        return (self._servers.get(fault.target) or self._clients[fault.target]).relay

    def _reopen(self, fault: Fault) -> None:
        relay = self._relay(fault)
        relay.open("refuse")
        if fault.target in self._servers:
            self._servers[fault.target].forgive()
        elif self._keep_s is not None and relay.accepts:
            at_s, mine = self._now_s(), frozenset(self._clients[fault.target].pushed)
            self._returns.append(Return(at_s, self._stored() & mine))

    def _start_redis(self) -> None:
        self._redis.start()
        at_s = self._now_s()
        for relay in self._relays.all:
            relay.open("restart")
        for server in self._servers.values():
            server.forgive()
        self._returns.append(Return(at_s, self._stored()))

    def _stored(self) -> frozenset[int]:
        """The jobs whose results are stored."""
        keys = list(self._admin.scan_iter(f"{QUEUE}:result:*", count=1000))
        values = self._admin.mget(keys) if keys else []
        return frozenset(json.loads(value)["result"]["storm"] for value in values if value)

    def _cut(self, relay: Relay, *, every: bool) -> None:
        ports = sorted(relay.upstream)
        for port in ports if every else ports[:1]:
            try:
                self._admin.client_kill(f"127.0.0.1:{port}")
            except redis.ResponseError:
                continue  # it has just ended by itself

    def _calm(self) -> None:
        """Wait until every list is empty and every job settled, or will never be; then end all programs."""
        for client in self._clients.values():
            client.stop_pushing()

        waiting, since_s = -1, 0.0
        within_s = SETTLED_WITHIN_S if self._keep_s is None else self._keep_s + 2

        def calm() -> bool:
            nonlocal waiting, since_s
            self._look()
            before, waiting = waiting, sum(client.waiting for client in self._clients.values())
            if waiting != before:
                since_s = self._now_s()
            return (
                all(server.serving for server in self._servers.values())
                and (not waiting or self._now_s() - since_s > within_s)
                and not self._left()
            )

        try:
            self._notifier.wait(calm, "the calm", CALM_WITHIN_S + (self._keep_s or 0))
        except Hung as hung:
            self._say(str(hung))  # the rest is reported job by job
        self._wait_for_names()
        for client in self._clients.values():
            client.close()
        for server in self._servers.values():
            server.stop_for_good()

        def ended() -> bool:
            self._look()
            return all(server.ended for server in self._servers.values())

        self._notifier.wait(ended, "the servers to end", 2 * ENDS_WITHIN_S)
        for server in self._servers.values():
            server.check_last_stop()

    def _wait_for_names(self) -> None:
        """Wait until no name is registered but those of the living."""

        def forgotten() -> bool:
            self._look()
            return not self._names_left()

        # The last server may just have ended; a busy machine gets as long again.
        within_s = 2 * self._times.forgotten_s
        if not self._notifier.happens(forgotten, within_s):
            self.troubles += [
                f"{key} is still registered {within_s:g} s later, and its server is over"
                for key in self._names_left()
            ]

    def _names_left(self) -> list[str]:
        registered = map(text, self._admin.hkeys(f"{QUEUE}:processors"))
        return names.left(registered, (each.lists[-1] for each in self._servers.values()))

    def _left(self) -> dict[int, str]:
        """Which jobs are on which list."""
        keys = [QUEUE, *(key for server in self._servers.values() for key in server.lists)]
        return {number(message): key for key in keys for message in self._admin.lrange(key, 0, -1)}

    def _evidence(self) -> Evidence:
        pushed = {job: each.name for each in self._clients.values() for job in list(each.pushed)}
        settled = {job: how for each in self._clients.values() for job, how in each.settled.items()}
        settled_at = {
            job: at_s for each in self._clients.values() for job, at_s in each.settled_at.items()
        }
        everybody: list[Server | Caller] = [*self._servers.values(), *self._clients.values()]
        return Evidence(
            pushed=pushed,
            settled=settled,
            accepted=Counter(number(message) for message in self._redis.pushed(QUEUE)),
            sent=frozenset().union(*(each.relay.sent for each in self._servers.values())),
            left=self._left(),
            dead=frozenset(
                number(message) for message in self._admin.lrange(f"{QUEUE}:dead", 0, -1)
            ),
            runs=[run for each in self._servers.values() for run in each.runs(self._began_s)],
            kills=self._kills,
            connects={
                name: [at_s - self._began_s for at_s in each.relay.connects]
                for name, each in self._servers.items()
            },
            kept=self._keep_s is not None,
            collecting=frozenset().union(*(each.collecting for each in self._clients.values())),
            settled_at={job: at_s - self._began_s for job, at_s in settled_at.items()},
            returns=self._returns,
            late=[(at_s - self._began_s, late_s) for at_s, late_s in self._pulse.late],
            disturbances=self._felt,
            troubles=[*self.troubles, *(said for each in everybody for said in each.troubles)],
        )


def text(key: bytes | str) -> str:
    """A key, which the client that decodes nothing returns as bytes."""
    return key if isinstance(key, str) else key.decode()


def number(message: bytes | str) -> int:
    """The number of a job, from its message."""
    found: int = json.loads(message)["parameters"]["storm"]
    return found
