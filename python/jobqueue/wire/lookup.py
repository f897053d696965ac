"""Where Redis is now: what to ask sentinels or the nodes of a cluster, and what their replies mean.

There is no I/O here; `jobqueue.wire.finding` asks. Each lookup begins with another address than the
one before, so that one with an outdated view can't answer for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.crc import key_slot

from jobqueue.protocol import keys as names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from jobqueue.protocol.keys import Keys

Address = tuple[str, int]


class NotKnownError(Exception):
    """Whoever was asked doesn't know the address; the message says so."""


class Lookup:
    """The addresses to ask, in turn.

    Args:
        addresses: Where to ask.
        name: What is looked for: for the log, and for the lock of a processor.
    """

    command: tuple[str | int, ...]

    def __init__(self, addresses: Iterable[Address], name: str) -> None:
        self.name = name
        self._addresses = tuple(dict.fromkeys(addresses))
        self._turn = 0

    def turn(self) -> Iterator[Address]:
        """Yield each address once, beginning after the one that was yielded last."""
        addresses = self._addresses
        for _ in addresses:
            self._turn += 1
            yield addresses[self._turn % len(addresses)]

    def read(self, reply: Any, asked: Address) -> Address:
        """Return the address that a reply to `command` names.

        Raises:
            NotKnownError: It names none.
        """
        raise NotImplementedError


class SentinelLookup(Lookup):
    """Finds the master of a service."""

    def __init__(self, addresses: Iterable[Address], service: str) -> None:
        super().__init__(addresses, service)
        self.command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)

    def read(self, reply: Any, asked: Address) -> Address:
        """Read a host and a port; nil where the sentinel doesn't know the service."""
        del asked
        if not reply:
            raise NotKnownError(f"it doesn't know the master {self.name!r}")
        host, port = reply
        return _text(host), int(port)


class ClusterLookup(Lookup):
    """Finds the primary of a slot, and learns from each reply whom else to ask.

    Args:
        addresses: Some nodes of the cluster.
        slot: The hash slot.
        remap: Converts an address that the cluster names to one that can be reached from here.
    """

    command = ("CLUSTER", "SLOTS")

    def __init__(
        self,
        addresses: Iterable[Address],
        slot: int,
        remap: Callable[[Address], Address] | None = None,
    ) -> None:
        self._seeds = tuple(addresses)
        super().__init__(self._seeds, ",".join(sorted(map(shown, self._seeds))))
        self._slot = slot
        self._remap = remap or (lambda address: address)

    def read(self, reply: Any, asked: Address) -> Address:
        """Read the ranges of slots, each with its primary and then its replicas."""
        found = None
        nodes: list[Address] = []
        for first, last, *served_by in reply:
            at = [self._address(node, asked) for node in served_by]
            nodes += at
            if first <= self._slot <= last:
                found = at[0]
        self._addresses = tuple(dict.fromkeys([*nodes, *self._seeds]))
        if found is None:
            raise NotKnownError(f"no node serves the slot {self._slot}")
        return found

    def _address(self, node: Any, asked: Address) -> Address:
        host, port, *_ = node
        # A node that doesn't know its own address leaves it out: it is the one that was asked.
        return self._remap((_text(host) or asked[0], int(port)))


def slot_of(keys: Keys) -> int:
    """Return the hash slot of all keys of a queue.

    Raises:
        ValueError: They are in several slots, so that no cluster would move a job between them.
    """
    slot = key_slot(keys.queue)
    queue = names.text(keys.queue)
    if key_slot(keys.dead) != slot:
        name = f"{{{queue}}}"
        right = name if key_slot(name.encode()) == slot else "a name like {job-queue}"
        raise ValueError(
            f"in a cluster all keys of a queue must be in one hash slot, but {queue} and "
            f"{names.text(keys.dead)} are not: use the queue {right}"
        )
    if key_slot(keys.in_process) != slot:
        raise ValueError(
            f"in a cluster all keys of a queue must be in one hash slot, but {queue} and "
            f"{names.text(keys.in_process)} are not: use an in-process key that begins with {queue}:"
        )
    return slot


def shown(address: Address) -> str:
    """Return an address as in a URL."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _text(host: bytes | str | None) -> str:
    return host.decode() if isinstance(host, bytes) else host or ""
