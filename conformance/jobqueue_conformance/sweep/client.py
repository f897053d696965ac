"""The fault sweep of a client: calls, the suite as the server that answers them, and how they have to be settled.

A call is known by a mark in its parameters, for its job's id is the client's own; the suite echoes them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import redis

from jobqueue_conformance.peer.calls import slowly
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.client import ClientProcess, Outcome
from jobqueue_conformance.programs.starting import StartClient
from jobqueue_conformance.proxy.events import COMMAND, MESSAGE
from jobqueue_conformance.proxy.proxy import Hold, Proxy
from jobqueue_conformance.proxy.waiting import Budget, Hung, Notifier
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec import messages
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.verdicts import fail, require
from jobqueue_conformance.sweep.attempt import Attempt, Sweep

AMPLE_MS = 8000  # a client reconnects within this time
SHORT_MS = 1000  # for a call whose result may never come
STALL_S = 0.3

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Call:
    """One line given to the driver."""

    seq: int
    mark: str
    timeout_ms: int | None


class ClientSweep(Sweep):
    """One client under test, and the server that the suite is to it."""

    def __init__(
        self,
        start: StartClient,
        peer: Peer,
        proxy: Proxy,
        redis: redis.Redis,
        redis_server: RedisServer,
        keys: Keys,
        notifier: Notifier,
        only: int | None,
    ) -> None:
        super().__init__(proxy, "client", only)
        self.proxy = proxy
        self.peer = peer
        self.notifier = notifier
        self.pushed: list[Job] = []
        self.keep_ms: int | None = (
            None  # of the calls that follow; their results are published only once
        )
        self._start = start
        self._redis = redis
        self._redis_server = redis_server
        self._keys = keys
        self._calls: list[Call] = []
        self._answered: dict[bytes, int] = {}  # by message, since ids belong to channels
        self._driver: ClientProcess | None = None

    @property
    def driver(self) -> ClientProcess:
        """The client's driver."""
        assert self._driver is not None, "no client was started"
        return self._driver

    def start_only(self) -> None:
        """Start the client."""
        self._driver = self._start()

    def start(self) -> None:
        """Start the client, and run a call that succeeds."""
        self.start_only()
        self.check_settled_by_result(self.call(AMPLE_MS), "client.settle.result")

    # Calls.

    def call(self, timeout_ms: int | None, attempt: Attempt | None = None) -> Call:
        """Run a job in the client, which is held at the attempt's boundary."""
        mark = self._mark(len(self._calls) + 1)
        if attempt is not None:
            attempt.watch(mark)
        seq = self.driver.submit(
            "echo", {"mark": mark}, timeout_ms and slowly(timeout_ms), keep_ms=self.keep_ms
        )
        call = Call(seq, mark, timeout_ms)
        self._calls.append(call)
        return call

    def hold_next(self, kind: str) -> Hold:
        """Hold the first event of this kind that belongs to the next call."""
        mark = self._mark(len(self._calls) + 1)
        return self.proxy.hold(lambda each: each.kind == kind and each.carries(mark), "client")

    def settled(self, call: Call, requirement: str | None = None) -> Outcome:
        """Serve until the call is settled, which the requirement says, or else how it has a timeout or none."""
        return self.serve_until(
            lambda: self._outcome(call),
            requirement or _settles(call),
            "a call that is settled",
        )

    def reached(self, attempt: Attempt, call: Call) -> bool:
        """Serve until the job is held at the boundary, or its run is over without it."""

        def over() -> bool:
            return bool(self._outcome(call)) and not self.proxy.under_way(call.mark)

        self.serve_until(
            lambda: attempt.at_boundary() or (over() and not attempt.at_boundary()),
            "client.settle.result",
            "a call that is settled by its result",
        )
        return attempt.held

    def pushes(self, call: Call) -> list[Job]:
        """Every job of this call that reached the queue until now."""
        self._claim()
        return [job for job in self.pushed if call.mark.encode() in job.message]

    # The suite as a server.

    def serve_until(
        self, look: Callable[[], Answer | None], requirement: str, expected: str
    ) -> Answer:
        """Answer what can be answered until `look` returns something."""

        def serve_and_look() -> Answer | None:
            self._claim()
            self._answer()
            found = look()
            if not found and not self.driver.running:
                fail("client.lost.resubscribes", expected=expected, got=self.driver.explain_exit())
            return found

        try:
            return self.notifier.wait(
                serve_and_look, expected, self.notifier.deadline_s + AMPLE_MS / 1000
            )
        except Hung as hung:
            fail(requirement, expected=expected, got=f"nothing: {hung}")

    def _claim(self) -> None:
        while (job := self.peer.take()) is not None:
            self.pushed.append(job)

    def _answer_kept(self, job: Job) -> None:
        """Store the result and publish it, whether or not somebody listens."""
        if job.message not in self._answered:
            self._answered[job.message] = self.proxy.opened
            self.peer.keep(job, result=job.parameters)
            self.peer.publish(job.channel, messages.written(id=job.id, result=job.parameters))

    def _answer(self) -> None:
        """Publish where the client is subscribed, and again whenever the client has made a connection since."""
        settled = {each.seq for each in list(self.driver.lines)}
        open_calls = [call.mark.encode() for call in self._calls if call.seq not in settled]
        for job in self.pushed:
            answered_to = self._answered.get(job.message)
            if answered_to == self.proxy.opened or not any(
                map(job.message.__contains__, open_calls)
            ):
                continue
            if self.keep_ms is not None:
                self._answer_kept(job)
            elif self.peer.listens(job.channel):
                self._answered[job.message] = self.proxy.opened
                self.peer.publish(job.channel, messages.written(id=job.id, result=job.parameters))

    def _mark(self, number: int) -> str:
        return f"call-{number}-{self._keys.queue}"

    def _outcome(self, call: Call) -> Outcome | None:
        found = self.driver.outcomes(call.seq)
        return found[0] if found else None

    # Only waiting can prove this.

    def stall(self, attempt: Attempt) -> None:
        """Keep the job at the boundary for a moment, then let it go on."""
        attempt.fault = f"stalled for {STALL_S:g} s"
        self._at_most(lambda: False, STALL_S)
        attempt.release()

    def wait_for_no_push(self, call: Call) -> None:
        """Wait until the call has timed out, or as long as that takes, or until its job was pushed."""
        self._at_most(lambda: self._outcome(call) or self.pushes(call), 2 * SHORT_MS / 1000)

    def wait_for_message(self, call: Call) -> None:
        """Answer a call whose push has no reply yet; on one connection, the result waits behind the reply."""

        def passed() -> bool:
            self._claim()
            self._answer()
            return any(
                each.kind == MESSAGE and each.carries(call.mark) for each in list(self.proxy.events)
            )

        self._at_most(passed, 2 * SHORT_MS / 1000)
        self._at_most(lambda: False, STALL_S / 10)

    def wait_for_reply(self, call: Call) -> None:
        """Wait until the reply to the call's push was returned."""

        def returned() -> bool:
            return not any(each.carries(call.mark) for each in self.proxy.in_flight("client"))

        self._at_most(returned, STALL_S)

    def _at_most(self, look: Callable[[], object], bound_s: float) -> None:
        """Wait by the clock, for the client counts a Redis that is held for too long as lost, by its own clock."""
        self.notifier.happens_by_the_clock(look, bound_s)

    # What has to be true.

    def check_settled_by_result(self, call: Call, requirement: str) -> None:
        """The call has its result."""
        outcome = self.settled(call, requirement)
        require(
            outcome.kind == "result" and messages.equal(outcome.value, {"mark": call.mark}),
            requirement,
            expected=f'the result {{"mark": "{call.mark}"}}',
            got=outcome,
        )

    def check_after_fault(self, attempt: Attempt, call: Call) -> None:
        """The call is settled as the spec's table says, once, and was pushed at most once."""
        event = attempt.hold.event
        lost = event is not None and event.kind == COMMAND and not attempt.deliver
        outcome = self.settled(call)
        if call.timeout_ms is None:
            allowed = outcome.kind == "result" or outcome.code == "connection-lost"
            expected = "its result, or the error connection-lost"
        elif lost or call.timeout_ms < AMPLE_MS:
            allowed = outcome.kind in {"result", "timeout"}
            expected = "its result, or its timeout"
        else:
            allowed = outcome.kind == "result"
            expected = "its result, for the client was listening again when it was published"
        require(allowed, _settles(call), expected=expected, got=outcome)

    def check_kept(self, attempt: Attempt, call: Call) -> None:
        """The call has its kept result where Redis has had its job, and may be lost where its push is unanswered."""
        event = attempt.hold.event
        unanswered = event is not None and event.carries(self._keys.queue)
        outcome = self.settled(
            call, "client.kept.looks" if call.timeout_ms else "client.kept.waits"
        )
        if self.pushes(call) and not (unanswered and call.timeout_ms is None):
            require(
                outcome.kind == "result", "client.kept.looks", expected="its result", got=outcome
            )
        elif call.timeout_ms is None:
            require(
                outcome.kind == "result" or outcome.code == "connection-lost",
                "client.lost.settles",
                expected="its result, or the error connection-lost",
                got=outcome,
            )

    def check_goes_on(self) -> None:
        """After a fault, calls have their results again: the second at the latest, once it could be pushed."""
        self.settled(self.call(SHORT_MS))
        budget = Budget(AMPLE_MS / 1000)
        while self.settled(call := self.call(AMPLE_MS)).code == "not-queued":
            if budget.left_s() <= 0:
                break
            self.notifier.pause(STALL_S)  # it is still on its way back
        self.check_settled_by_result(call, "client.lost.resubscribes")

    def check_once(self) -> None:
        """Every call was settled once, and pushed at most once."""
        for call in self._calls:
            outcomes, pushes = self.driver.outcomes(call.seq), self.pushes(call)
            require(len(outcomes) == 1, "client.settle.once", expected="one outcome", got=outcomes)
            require(
                len(pushes) <= 1,
                "client.push.once",
                expected="one job in the queue for each call",
                got=[job.message for job in pushes],
            )

    # Faults.

    def keep_data(self) -> None:
        """Make every write survive a kill of Redis, from now on."""
        self._redis_server.keep_data()

    def restart_redis(self, attempt: Attempt) -> None:
        """Kill Redis at the boundary and start it with its data."""
        attempt.fault = "Redis killed and started again"
        self.proxy.refuse()
        attempt.drop()
        self._redis_server.kill()
        self.proxy.wait_all_closed("client")
        self._redis_server.start()
        self.peer.listen_again()
        self.proxy.accept_again()


def _settles(call: Call) -> str:
    """The requirement that says how a call is settled after a fault."""
    return "client.lost.settles" if call.timeout_ms is None else "client.lost.waits"
