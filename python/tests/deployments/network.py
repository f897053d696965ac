"""Hosts of their own on one switch, which can be cut in two: network namespaces of Linux.

What is cut is silent, as when a cable is pulled: no connection is refused or reset. Sockets of a file
system aren't cut, so a test reaches each Redis all the time.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import shutil
import socket
import subprocess
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMESPACES = Path("/run/netns")
PORTS = range(12000, 16000)
TLS_ABOVE, BUS_ABOVE = 4_000, 10_000  # what a node listens on, too, with TLS and in a cluster
CLONE_NEWNET = 0x40000000


class Host(Protocol):
    """Where a program runs."""

    @property
    def address(self) -> str:
        """Return where others reach it."""

    def command(self, *arguments: str) -> list[str]:
        """Return what to start so that the program runs there."""

    def port(self) -> int:
        """Return one that nobody listens on."""

    def thread(self, work: Callable[[], None]) -> threading.Thread:
        """Return a thread that works there, as do those that it starts."""


class ThisMachine:
    """The host on which the tests run."""

    address = "127.0.0.1"

    def command(self, *arguments: str) -> list[str]:
        """Start it as it is."""
        return [*arguments]

    def port(self) -> int:
        """Find one by chance, so that two sessions of tests don't find the same."""
        while True:
            port = random.choice(PORTS)
            above = (0, TLS_ABOVE, BUS_ABOVE, TLS_ABOVE + BUS_ABOVE)
            with ExitStack() as probes, suppress(OSError):
                for each in above:
                    probe = probes.enter_context(socket.socket())
                    probe.bind((self.address, port + each))
                return port

    def thread(self, work: Callable[[], None]) -> threading.Thread:
        """Return an ordinary thread."""
        return threading.Thread(target=work)


@dataclass(frozen=True)
class Namespace:
    """A host on the switch of a network."""

    name: str
    address: str
    cable: str
    ports: Iterator[int]

    def command(self, *arguments: str) -> list[str]:
        """Start it in the namespace; `ip` becomes that program."""
        return ["ip", "netns", "exec", self.name, *arguments]

    def port(self) -> int:
        """Return the next one of the network, so that a port names a node."""
        return next(self.ports)

    def thread(self, work: Callable[[], None]) -> threading.Thread:
        """Return a thread that enters the namespace, which those that it starts inherit."""

        def enter() -> None:
            with (NAMESPACES / self.name).open() as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"can't enter {self.name}")
            work()

        return threading.Thread(target=enter)


class Network:
    """Two bridges, both on a host that has nothing else; all hosts begin on the first one."""

    def __init__(self) -> None:
        self._name = f"jobqueue-{os.getpid()}-{random.randrange(10**6)}"
        self._ports = itertools.count(PORTS[0])
        self._hosts = itertools.count(1)
        self._namespaces = ExitStack()
        self._add(self._name)
        for bridge in ("one", "other"):
            self._switch("link", "add", bridge, "type", "bridge")
            self._switch("link", "set", bridge, "up")

    @staticmethod
    def missing() -> str | None:
        """Return what a network needs and this machine lacks, in one sentence."""
        if not shutil.which("ip"):
            return "partitions need the command ip: install iproute2"
        probe = f"jobqueue-probe-{os.getpid()}"
        try:
            _ip("netns", "add", probe)
        except OSError as refused:
            return f"partitions need network namespaces, and the right to make them: {refused}"
        _ip("netns", "del", probe)
        return None

    def host(self) -> Namespace:
        """Add a host."""
        number = next(self._hosts)
        name, cable = f"{self._name}-{number}", f"to{number}"
        self._add(name)
        host = Namespace(name, f"10.0.0.{number}", cable, self._ports)
        self._switch("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        self._switch("link", "set", cable, "master", "one", "up")
        for device in ("lo", "eth0"):
            _ip("-n", name, "link", "set", device, "up")
        _ip("-n", name, "address", "add", f"{host.address}/24", "dev", "eth0")
        return host

    @contextmanager
    def cut(self, *hosts: Namespace) -> Iterator[None]:
        """Have these hosts reach one another, and nobody else, inside the `with` block."""
        try:
            for host in hosts:
                self._switch("link", "set", host.cable, "master", "other")
            yield
        finally:
            for host in hosts:
                self._switch("link", "set", host.cable, "master", "one")

    def close(self) -> None:
        """Remove the hosts; what runs there has ended."""
        self._namespaces.close()

    def _add(self, name: str) -> None:
        _ip("netns", "add", name)
        self._namespaces.callback(_ip, "netns", "del", name)

    def _switch(self, *arguments: str) -> None:
        _ip("-n", self._name, *arguments)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
