"""The queues of a world, and the keys that the protocol gives them."""

from __future__ import annotations

QUEUE, SECOND = b"q", b"r"  # the second is served by servers of two queues alone
QUEUES = (QUEUE, SECOND)
DEAD = tuple(each + b":dead" for each in QUEUES)
LEASES = tuple(each + b":lease:" for each in QUEUES)  # how their keys begin
RESULTS = tuple(each + b":result:" for each in QUEUES)
IN_PROCESS = b":in-process:"


def queue_of(key: bytes) -> bytes:
    """Return the queue to which a key belongs."""
    return key.partition(b":")[0]


def lease_of(of_list: bytes) -> bytes:
    """Return the key of the lease of an in-process list."""
    return queue_of(of_list) + b":lease:" + of_list


def list_of(lease: bytes) -> bytes:
    """Return the in-process list of which a key is the lease."""
    return lease.partition(b":lease:")[2]


def registry_of(key: bytes) -> bytes:
    """Return the registry of the queue to which a key belongs."""
    return queue_of(key) + b":processors"
