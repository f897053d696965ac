"""Stories: Hypothesis interleaves jobs and faults, and a small model of the protocol says what has to come of them.

A story that fails is shrunk to few steps, printed as a program, and replayed by the blob that is printed with it.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from jobqueue_conformance.calls import run_after_a_loss
from jobqueue_conformance.client_process import ClientProcess
from jobqueue_conformance.examples import examples, run
from jobqueue_conformance.manifest import Implementation
from jobqueue_conformance.peer import Peer
from jobqueue_conformance.pytest_fixtures import StartClient, StartServer
from jobqueue_conformance.redis_server import RedisServer
from jobqueue_conformance.server_process import ServerProcess
from jobqueue_conformance.tap import How, Tap
from jobqueue_conformance.verdicts import require
from jobqueue_conformance.wire import Job

SERVER_STORIES = settings(examples, max_examples=6, stateful_step_count=8)
CLIENT_STORIES = settings(examples, max_examples=25, stateful_step_count=12)
UNANSWERED = "server.recovery.first"
LONGEST_LOOK_S = 6.0  # the second look comes after T, which is at most 5 s
LONG_MS, AGAIN_S = 60_000, 10.0


class ServerStory(RuleBasedStateMachine):
    """Jobs and dead messages, and a server that is killed, stopped, cut off and started again.

    The model: a job is in the queue or on the server's list until it is answered, and in the end it is answered.
    """

    server: ServerProcess | None = None

    def __init__(
        self, server: StartServer, peer: Peer, redis: Redis, redis_server: RedisServer, tap: Tap
    ) -> None:
        super().__init__()
        self.start_server = server
        self.peer = peer
        self.redis = redis
        self.redis_server = redis_server
        self.tap = tap
        self.jobs: list[Job] = []

    @rule(method=st.sampled_from(["echo", "fail", "unknown"]), count=st.integers(1, 3))
    def push(self, method: str, count: int) -> None:
        """Push some jobs."""
        self.jobs += [self.peer.push(method, len(self.jobs) + number) for number in range(count)]

    @rule()
    def push_dead(self) -> None:
        """Push a message that no server can answer."""
        self.peer.push_message(b"no JSON")

    @precondition(lambda story: story.server is None)
    @rule()
    def start(self) -> None:
        """Start the server, for the first time or again."""
        self.server = self.start_server()

    @precondition(lambda story: story.server is not None)
    @rule()
    def kill(self) -> None:
        """Kill the server, wherever it is."""
        assert self.server is not None
        self.server.kill()
        self.server = None

    @precondition(lambda story: story.server is not None)
    @rule(how=st.sampled_from(["fin", "rst"]), ghost=st.booleans())
    def drop(self, how: How, *, ghost: bool) -> None:
        """End the server's connections; Redis notices at once, or only later."""
        self.tap.drop(how=how, ghost=ghost)

    @rule()
    def restart_redis(self) -> None:
        """Kill Redis, and start it again with its data; results that it has published are heard before."""
        self.tap.close_door()
        self.tap.drop()
        self.tap.hang_up()
        self.peer.messages()
        self.redis_server.restart()
        self.redis.connection_pool.disconnect()
        self.peer.listen_again()
        self.tap.open_door()

    @rule()
    def answer_all(self) -> None:
        """Wait until the server has answered everything."""
        if self.server is not None:
            for job in self.jobs:
                self.peer.result(job, UNANSWERED)

    @invariant()
    def no_job_is_lost(self) -> None:
        """Every job lies on a list, or is answered."""
        waiting = self.peer.waiting()
        self.peer.messages()  # hears all that has been published
        lost = [job for job in self.jobs if job.message not in waiting and not self.peer.heard(job)]
        require(
            not lost,
            "server.publish.before-remove",
            expected="every job on the queue, on the server's list, or answered",
            got=[job.parameters for job in lost],
        )

    def teardown(self) -> None:
        """In the end, a server that keeps running answers everything, rightly, and leaves nothing."""
        if self.server is None or not self.server.running:
            self.server = self.start_server()
        self.tap.hang_up()
        try:
            self.check_end()
        finally:
            self.server.kill()

    def check_end(self) -> None:
        """Every job has the right result, and nothing is left."""
        for job in self.jobs:
            code = {"fail": "handler-error", "unknown": "method-not-found"}.get(job.method)
            for result in [self.peer.result(job, UNANSWERED), *self.peer.heard(job)]:
                require(
                    result.get("result") == (None if code else job.parameters)
                    and result.get("error", {}).get("code") == code,
                    "server.run.handler",
                    expected=f"{code or job.parameters} for {job.method}",
                    got=result,
                )
        self.peer.wait(lambda: not self.peer.waiting(), "server.remove.finished", "empty lists")


class ClientStory(RuleBasedStateMachine):
    """A client whose jobs are answered, once or more often, and whose connections are lost.

    The model: the first result settles a job, a loss settles those without a timeout, nothing settles one again.
    """

    waiting: dict[int, Job]
    settled: list[Job]

    def __init__(
        self, driver: ClientProcess, peer: Peer, redis: Redis, tap: Tap, *, concurrent: bool
    ) -> None:
        super().__init__()
        self.driver = driver
        self.peer = peer
        self.redis = redis
        self.tap = tap
        self.concurrent = concurrent
        self.waiting = {}
        self.settled = []
        self.patient: set[int] = set()
        self.outcomes = len(driver.lines)
        self.lost = False

    @precondition(lambda story: story.concurrent or not story.waiting)
    @rule(patient=st.booleans())
    def submit(self, *, patient: bool) -> None:
        """Have the client push a job, with a long timeout or none."""
        self.connect_again()
        seq = self.driver.submit("echo", "story", LONG_MS if patient else None)
        job = self.waiting[seq] = self.peer.claim()
        self.patient |= {seq} if patient else set()
        self.tap.bell.wait(lambda: not self.tap.under_way(job.id), "the reply to the push")

    @precondition(lambda story: story.waiting)
    @rule(which=st.integers(0, 7), value=st.none() | st.integers(0, 9))
    def answer(self, which: int, value: int | None) -> None:
        """Answer one of the jobs that wait."""
        seq, job = [*self.waiting.items()][which % len(self.waiting)]
        self.peer.answer(job, result=value)
        outcome = self.driver.outcome(seq)
        require(
            outcome.kind == "result" and outcome.value == value,
            "client.settle.result",
            expected=f"the value {value}",
            got=outcome,
        )
        self.settle(seq)

    @precondition(lambda story: story.settled)
    @rule(which=st.integers(0, 7))
    def answer_again(self, which: int) -> None:
        """Publish another result of a job that is settled."""
        self.peer.answer(self.settled[which % len(self.settled)], result="again")

    @precondition(lambda story: story.waiting)
    @rule(message=st.sampled_from([b"no JSON", b"[]", b"null", b'{"id": "nobody", "result": 1}']))
    def disturb(self, message: bytes) -> None:
        """Publish something that settles nothing."""
        self.peer.publish(next(iter(self.waiting.values())).channel, message)

    @rule(how=st.sampled_from(["fin", "rst"]))
    def drop(self, how: How) -> None:
        """End the client's connections; who has a timeout goes on waiting on the same channel."""
        self.tap.drop(how=how)
        self.lost = True
        for seq in [each for each in self.waiting if each not in self.patient]:
            outcome = self.driver.outcome(seq)
            require(
                outcome.code == "connection-lost",
                "client.lost.settles",
                expected="the error connection-lost",
                got=outcome,
            )
            self.settle(seq)
        channels = {job.channel for job in self.waiting.values()}
        require(
            self.tap.bell.happens(
                lambda: all(number for _, number in self.redis.pubsub_numsub(*channels)), AGAIN_S
            )
            or not channels,
            "client.lost.waits",
            expected="a new subscription on the same channel",
            got=f"none within {AGAIN_S:g} s",
        )

    @invariant()
    def each_job_is_settled_once(self) -> None:
        """There are as many outcomes as jobs that were settled."""
        require(
            len(self.driver.lines) == self.outcomes,
            "client.settle.once",
            expected=f"{self.outcomes} outcomes",
            got=self.driver.lines,
        )

    def connect_again(self) -> None:
        """After a loss, run other jobs until one has its result: a push can still be lost by it."""
        if not self.lost:
            return
        before = len(self.driver.lines)
        outcome, _ = run_after_a_loss(self.driver, self.peer, self.tap.bell, "after a loss")
        require(
            outcome.kind == "result",
            "client.lost.resubscribes",
            expected="a new job's result",
            got=outcome,
        )
        self.outcomes += len(self.driver.lines) - before
        self.lost = False

    def settle(self, seq: int) -> None:
        """In the model, too."""
        self.settled.append(self.waiting.pop(seq))
        self.outcomes += 1

    def teardown(self) -> None:
        """In the end, the jobs that wait are answered; the client lives on for the next story."""
        try:
            while self.waiting:
                self.answer(0, 0)
            self.connect_again()
            self.each_job_is_settled_once()
        except BaseException:
            self.driver.kill()
            raise


@pytest.mark.requirement("server.recovery.reconnect", "server.recovery.first")
def test_every_story_of_a_server_ends_well(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    tap: Tap,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However jobs, kills, losses and restarts are interleaved, every job is answered in the end."""
    redis_server.keep_data()
    peer.moment_s = LONGEST_LOOK_S

    def tell() -> None:
        run_state_machine_as_test(
            lambda: ServerStory(server, peer, redis, redis_server, tap),  # type: ignore[arg-type] # any maker
            settings=SERVER_STORIES,
        )

    run(tell, monkeypatch)


@pytest.mark.requirement("client.settle.once", "client.lost.waits", "client.lost.settles")
def test_every_story_of_a_client_ends_well(
    client: StartClient,
    peer: Peer,
    redis: Redis,
    tap: Tap,
    implementation: Implementation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However jobs, results and losses are interleaved, every job is settled once, and rightly."""
    concurrent = "concurrent-client" in implementation.features
    drivers = [client()]

    def story() -> ClientStory:
        if not drivers[-1].running:
            drivers.append(client())
        return ClientStory(drivers[-1], peer, redis, tap, concurrent=concurrent)

    def tell() -> None:
        run_state_machine_as_test(story, settings=CLIENT_STORIES)  # type: ignore[arg-type] # any maker

    run(tell, monkeypatch)
