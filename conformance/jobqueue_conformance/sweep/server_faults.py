"""The faults that a sweep injects into a server, all of them real: no reply is forged.

Each returns when the fault has happened and, where it is one that passes, has passed.
"""

from collections.abc import Callable, Iterator
from enum import StrEnum

import hiredis
import redis

from jobqueue_conformance.proxy import boundary, resp
from jobqueue_conformance.proxy.events import COMMAND, REPLY, Event
from jobqueue_conformance.proxy.waiting import Notifier
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.verdicts import Unsupported, fail, require
from jobqueue_conformance.sweep.attempt import Attempt
from jobqueue_conformance.sweep.server import ServerSweep

TRIES = 3
USER, PASSWORD = "under-test", "swept"


class Rejection(StrEnum):
    """Why Redis refuses a command."""

    MEMORY = "memory"
    READ_ONLY = "read-only"
    NO_PERMISSION = "no-permission"


class ServerFaults:
    """Injects faults into the server of a sweep."""

    def __init__(
        self,
        sweep: ServerSweep,
        server: RedisServer,
        redis: redis.Redis,
        keys: Keys,
        notifier: Notifier,
    ) -> None:
        self._sweep = sweep
        self._proxy = sweep.proxy
        self._server = server
        self._redis = redis
        self._keys = keys
        self._notifier = notifier

    def keep_data(self) -> None:
        """Make every write survive a kill of Redis, from now on."""
        self._server.keep_data()

    def restart_redis(self, attempt: Attempt) -> None:
        """Kill Redis at the boundary and start it with its data; programs are refused until the suite listens."""
        attempt.fault = "Redis killed and started again"
        self._proxy.refuse()
        attempt.drop()
        self._server.kill()
        self._proxy.wait_all_closed("server")
        self._server.start()
        self._sweep.peer.listen_again()
        self._proxy.accept_again()

    # Connections.

    def handshakes(self) -> Iterator[Attempt]:
        """Lose all connections, again and again, and hold the next handshake one event further each time."""
        number = only = self._sweep.only or 1
        while number == only or not self._sweep.only:
            self._sweep.process.wait_idle()
            attempt = Attempt(self._proxy, "server", number, deliver=False)
            attempt.fault = "connection lost in its handshake"
            self._sweep.current = attempt
            attempt.watch_for(boundary.NthOfHandshake(number, self._keys.queue, self._proxy.opened))
            self._proxy.drop("server")
            self._sweep.peer.wait(
                lambda: attempt.at_boundary() or self._sweep.process.idle(),  # noqa: B023 - asked in this turn only
                "server.connection.survives",
                "a server that connects again",
            )
            if not attempt.held:
                break
            yield attempt
            number += 1
        if self._sweep.only and number == only:
            fail(
                "server.connection.survives",
                expected=f"a handshake with {number} events",
                got="a shorter one",
            )

    def ghost_pop(self, *, late: bool) -> tuple[Job, Job]:
        """Have Redis move a job to the list for a connection that is dead; return it and a second one behind it.

        Args:
            late: it happens when the server has connected again and has looked at its list, not before.
        """
        process, peer = self._sweep.process, self._sweep.peer
        process.wait_idle()
        if not late:
            self._proxy.stop_accepting()
        self._proxy.drop("server", half_open=True)
        if late:
            process.wait_idle()
            # A slow machine can be back after the dead claim has ended; a polling server has none.
            for _ in range(TRIES):
                if self._proxy.has_half_open_claim("server"):
                    break
                self._proxy.drop("server", half_open=True)
                process.wait_idle()
        ghost, behind = peer.push("echo", "ghost"), peer.push("echo", "behind")
        if not late:
            self._proxy.accept_again()
        return ghost, behind

    # Stops.

    def stop(self, attempt: Attempt, job: Job) -> None:
        """Send SIGTERM at the boundary, let the job go on, and check what the server leaves behind."""
        attempt.fault = "SIGTERM"
        process = self._sweep.process
        process.terminate()
        process.wait_signal_delivered()
        # One command may finish the job and claim the next: it was sent before the signal came.
        executed = attempt.hold.event is not None and attempt.hold.event.kind != COMMAND
        alone = executed and attempt.alone
        behind = self._sweep.peer.push("echo", "behind")  # now, for a server may claim ahead
        attempt.release()
        status = process.wait_exit()
        require(
            status == 0, "server.stop.exit", expected="exit status 0", got=process.explain_exit()
        )
        for each in (job, behind):
            held = self._sweep.held(each)
            require(
                not held.in_process and (held.queue or held.published),
                "server.stop.drains",
                expected="a job that is answered and removed, or back in the queue",
                got=f"a job in {held.places or 'no place'} with {held.published} results",
            )
        if alone:
            # Nothing that could claim it was under way when the signal came.
            held = self._sweep.held(behind)
            require(
                held.queue == 1 and not held.published,
                "server.stop.no-claim",
                expected="the second job still in the queue",
                got=f"a job in {held.places or 'no place'} with {held.published} results",
            )

    # Commands that Redis rejects.

    def start_for(self, rejection: Rejection) -> None:
        """Start the server; where a permission is to be refused, as a user that has every one."""
        if not self._server.private:
            raise Unsupported("a Redis of the user's own isn't made to refuse commands")
        if rejection is not Rejection.NO_PERMISSION:
            self._sweep.start()
            return
        self._redis.acl_setuser(
            USER,
            enabled=True,
            passwords=f"+{PASSWORD}",
            keys=["*"],
            channels=["*"],
            categories=["+@all"],
        )
        self._sweep.start(user=USER, password=PASSWORD)

    def reject(self, attempt: Attempt, rejection: Rejection, job: Job) -> None:
        """Have Redis refuse commands from the boundary on, until it has refused one."""
        attempt.fault = f"refused by Redis: {rejection}"
        held = attempt.hold.event
        if held is not None and held.transaction and rejection is Rejection.NO_PERMISSION:
            # An ACL that changes between MULTI and EXEC lets one command of the two through, and
            # no order of commands helps against it.
            attempt.release()
            return
        impose, heal = self._switches(rejection)
        seen = len(self._proxy.events)
        impose()
        attempt.release()

        def refused() -> bool:
            if not self._sweep.process.running:
                return True
            if held is not None and held.kind == COMMAND and self._pending(held):
                return False
            if any(_is_error(each) for each in self._proxy.events[seen:]):
                return True
            return self._sweep.over(job) and self._sweep.process.idle()

        self._notifier.wait(refused, "Redis to refuse a command")
        heal()

    def settle_after(self, rejection: Rejection, job: Job) -> None:
        """Wait until the job is answered or, where that was forbidden, treated as dead.

        A server that exited with a status is started again, as its process manager would.
        """

        def otherwise() -> bool:
            self._restart_if_exited()
            return rejection is Rejection.NO_PERMISSION and self._buried(job)

        self._sweep.settle(
            job,
            stranded="server.publish.again",
            lost="server.publish.refused",
            otherwise=otherwise,
        )

        def idle() -> bool:
            self._restart_if_exited()
            return self._sweep.process.idle()

        self._sweep.process.reset_idle()
        self._notifier.wait(idle, "the server to be idle")

    def _restart_if_exited(self) -> None:
        process = self._sweep.process
        if process.running:
            return
        require(
            process.status != 0,
            "server.connection.survives",
            expected="a server that goes on, or exits with a status other than 0",
            got=process.explain_exit(),
        )
        self._sweep.start()

    def _buried(self, job: Job) -> bool:
        """Whether the job was treated as dead."""
        held = self._sweep.held(job)
        gone = not held.queue and not held.in_process and not held.published
        return gone and (held.dead > 0 or "dead-list" not in self._sweep.features)

    def _pending(self, command: Event) -> bool:
        return any(each is command for each in self._proxy.in_flight("server"))

    def _switches(self, rejection: Rejection) -> tuple[Callable[[], object], Callable[[], object]]:
        """What makes Redis refuse, and what makes it stop."""
        admin = self._redis
        match rejection:
            case Rejection.MEMORY:
                return (
                    lambda: admin.config_set("maxmemory", 1),
                    lambda: admin.config_set("maxmemory", 0),
                )
            case Rejection.READ_ONLY:
                return (
                    lambda: admin.replicaof("127.0.0.1", 1),
                    lambda: admin.replicaof("NO", "ONE"),
                )
            case Rejection.NO_PERMISSION:
                return (
                    lambda: admin.acl_setuser(USER, enabled=True, reset_channels=True),
                    lambda: admin.acl_setuser(USER, enabled=True, channels=["*"]),
                )


def _is_error(event: Event) -> bool:
    """Whether this is an error of Redis, or has one in it."""
    if event.kind != REPLY:
        return False
    if event.frame[:1] == b"-":
        # What a client library tries in its handshake, and older servers don't know.
        return event.arguments[:1] != (b"CLIENT",)
    if b"\r\n-" not in event.frame:
        return False
    said = resp.value(event.frame)
    return isinstance(said, list) and any(isinstance(each, hiredis.ReplyError) for each in said)
