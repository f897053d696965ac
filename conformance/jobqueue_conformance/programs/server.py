"""A server under test, and whether it is idle.

Idle is a claim outstanding, or two exchanges that changed nothing, on an empty queue. It is judged by what Redis holds
and by which of the server's connections are blocked in it, never by a command's name.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import redis

from jobqueue_conformance.programs.process import Exited, Process, SetupError
from jobqueue_conformance.proxy.proxy import Endpoint, Proxy
from jobqueue_conformance.proxy.waiting import Hung, Notifier
from jobqueue_conformance.spec.keys import Keys

State = tuple[object, ...]


class ServerProcess(Process):
    """One run of a server, from its start to its exit; it reaches Redis through its endpoint of the proxy."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: dict[str, str],
        *,
        notifier: Notifier,
        output: Path,
        proxy: Proxy,
        endpoint: Endpoint,
        redis: redis.Redis,
        keys: Keys,
        processor: str,
        in_process: str,
    ) -> None:
        self.processor = processor
        self.in_process = in_process
        self.endpoint = endpoint
        self._proxy = proxy
        self._redis = redis
        self._keys = keys
        self._quiet: tuple[State, int] | None = None
        endpoint.begin()
        super().__init__(endpoint.who, command, folder, environment, notifier, output)

    def wait_ready(self) -> None:
        """Wait until it has named the queue, or raise with the reason why it never will."""

        def ready() -> bool:
            if self.endpoint.named_queue:
                return True
            self.check_can_run()
            return False

        try:
            self._notifier.wait(ready, f"the {self.name} to name the queue")
        except Hung as hung:
            raise SetupError(self.endpoint.inactivity) from hung
        # How long a start takes here bounds every wait that follows.
        self._notifier.deadline_s = max(
            self._notifier.deadline_s, 20 * (time.monotonic() - self.started_s)
        )

    def wait_exit(self, deadline_s: float | None = None) -> int:
        """Wait until it has exited, and Redis has executed all that it had sent; return its status."""
        status = super().wait_exit(deadline_s)
        self._proxy.wait_all_closed(self.endpoint.who)
        return status

    def reset_idle(self) -> None:
        """Judge its idleness only by what it does from now on."""
        self._quiet = None

    def wait_idle(self) -> None:
        """Wait until it has nothing to do."""
        self.reset_idle()

        def idle() -> bool:
            if not self.running:
                raise Exited(self.explain_exit())
            return self.idle()

        self._notifier.wait(idle, f"the {self.name} to be idle")

    def idle(self) -> bool:
        """Whether it has nothing to do at this moment."""
        if self._redis.exists(self._keys.queue):
            self._quiet = None
            return False
        return self._blocked() or self._unchanged()

    def _blocked(self) -> bool:
        """Whether Redis holds back the reply to one of its commands."""
        ports = {
            each.local_port
            for each in self._proxy.connections
            if each.who == self.endpoint.who and each.in_flight is not None and not each.dead
        }
        if not ports:
            return False
        listed = self._redis.client_list()
        blocked = [each for each in listed if "b" in each["flags"]]
        ours = [each for each in listed if _port(each["addr"]) in ports]
        # Behind a translating network (a container's) ports differ: then any blocked client counts.
        return any(each in blocked for each in ours) if ours else bool(blocked)

    def _unchanged(self) -> bool:
        """Whether two exchanges about the queue have changed nothing since this was last asked."""
        exchanges = self.endpoint.exchanges
        state = self._state()
        if self._quiet is None or self._quiet[0] != state:
            self._quiet = (state, exchanges)
            return False
        return exchanges >= self._quiet[1] + 2

    def _state(self) -> State:
        with self._redis.pipeline(transaction=False) as pipe:
            for key in (self._keys.queue, self.in_process, self._keys.dead):
                pipe.lrange(key, 0, -1)
            return tuple(tuple(each) for each in pipe.execute())


def _port(address: str) -> int:
    _, _, port = address.rpartition(":")
    return int(port)
