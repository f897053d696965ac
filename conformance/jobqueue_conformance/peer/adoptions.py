"""Waits for what a server adopts, as long as the protocol allows."""

from collections.abc import Callable
from typing import Any

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.peer.registry import SCAN_S


def adopted(
    peer: Peer, look: Callable[[], Any], requirement: str = "server.takeover.adopts"
) -> Any:
    """Wait for what an adoption brings about; a scan may be as far away as the protocol allows."""
    return peer.wait(look, requirement, "an adoption", patience_s=SCAN_S)
