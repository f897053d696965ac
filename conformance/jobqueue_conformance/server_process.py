"""A server under test, and whether it is idle.

Idle is a claim outstanding, or two exchanges that changed nothing, on an empty queue. It is judged by what Redis holds
and by which of the server's connections are blocked in it, never by a command's name.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import redis

from jobqueue_conformance.bell import Bell, Hung
from jobqueue_conformance.keys import Keys
from jobqueue_conformance.process import Exited, Process, SetupError
from jobqueue_conformance.tap import Door, Tap

State = tuple[object, ...]


class ServerProcess(Process):
    """One life of a server; it is started through its door of the tap."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: dict[str, str],
        *,
        bell: Bell,
        output: Path,
        tap: Tap,
        door: Door,
        redis: redis.Redis,
        keys: Keys,
        processor: str,
        in_process: str,
    ) -> None:
        self.processor = processor
        self.in_process = in_process
        self.door = door
        self._tap = tap
        self._redis = redis
        self._keys = keys
        self._quiet: tuple[State, int] | None = None
        door.begin()
        super().__init__(door.who, command, folder, environment, bell, output)

    def wait_ready(self) -> None:
        """Wait until it has named the queue, or say why it never will."""

        def ready() -> bool:
            if self.door.named_queue:
                return True
            self.check_can_run()
            return False

        try:
            self._bell.wait(ready, f"the {self.name} to name the queue")
        except Hung as hung:
            raise SetupError(self.door.silence) from hung
        # How long a start takes here bounds every wait that follows.
        self._bell.deadline_s = max(self._bell.deadline_s, 20 * (time.monotonic() - self.started_s))

    def wait_exit(self, deadline_s: float | None = None) -> int:
        """Wait until it has exited, and Redis has executed all that it had sent; gives its status."""
        status = super().wait_exit(deadline_s)
        self._tap.wait_all_closed(self.door.who)
        return status

    def look_anew(self) -> None:
        """Forget what was seen before; idle is what it is from now on."""
        self._quiet = None

    def wait_idle(self) -> None:
        """Wait until it has nothing to do."""
        self.look_anew()

        def idle() -> bool:
            if not self.running:
                raise Exited(self.explain_exit())
            return self.idle()

        self._bell.wait(idle, f"the {self.name} to be idle")

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
            for each in self._tap.connections
            if each.who == self.door.who and each.in_flight is not None and not each.dead
        }
        if not ports:
            return False
        listed = self._redis.client_list()
        blocked = [each for each in listed if "b" in each["flags"]]
        ours = [each for each in listed if _port(each["addr"]) in ports]
        # Behind a translating network (a container's) ports differ: then anybody who is blocked counts.
        return any(each in blocked for each in ours) if ours else bool(blocked)

    def _unchanged(self) -> bool:
        """Whether two exchanges about the queue have changed nothing since this was last asked."""
        exchanges = self.door.exchanges
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
