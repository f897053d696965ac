"""What the suite's own other side says of a job that is missing."""

from typing import Any, cast

import pytest
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.proxy.waiting import Notifier
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.verdicts import Failure


class Lists:
    """A Redis that has only lists."""

    def __init__(self) -> None:
        self.lists: dict[str, list[bytes]] = {}

    def lrange(self, key: str, _first: int, _last: int) -> list[bytes]:
        """A whole list."""
        return self.lists.get(key, [])


class Gone:
    """A server that is idle, and stays so."""

    running = True
    in_process = "q:in-process:gone"

    def idle(self) -> bool:
        """It always is."""
        return True

    def reset_idle(self) -> None:
        """It is idle nevertheless."""


@pytest.mark.parametrize(
    "lists, said",
    [
        ([], "nothing, and the server is idle"),
        (["q:dead"], " is on q:dead"),
        (["q", "q:in-process:gone"], " is on q and on q:in-process:gone"),
    ],
)
def test_who_waits_in_vain_learns_where_the_job_lies(lists: list[str], said: str) -> None:
    """A job without a result is said to be on the lists that have its message, the dead list, too."""
    redis, notifier = Lists(), Notifier()
    notifier.deadline_s = 0.1
    observer = cast("Any", type("Silent", (), {"messages": []})())
    peer = Peer(cast("Any", redis), Keys("q"), observer, notifier, cast("Any", None))
    peer.moment_s = 0.0
    peer.servers.append(cast("Any", Gone()))
    job = peer.job("echo")
    redis.lists = {each: [job.message] for each in lists}

    with pytest.raises(Failure) as failed:
        peer.result(job)

    assert failed.value.got.endswith(said)
