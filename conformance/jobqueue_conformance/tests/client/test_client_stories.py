"""Random sequences for a client: Hypothesis interleaves jobs and faults, and a small model says what must follow.

A sequence that fails is printed as a program, and replayed by the blob that is printed with it.
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

from jobqueue_conformance.peer.calls import run_after_a_loss
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.client import ClientProcess
from jobqueue_conformance.programs.starting import StartClient
from jobqueue_conformance.proxy.proxy import How, Proxy
from jobqueue_conformance.running.examples import run, stories
from jobqueue_conformance.spec.manifest import Implementation
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.verdicts import require

STORIES = settings(stories, max_examples=25, stateful_step_count=12)
LONG_MS, AGAIN_S = 60_000, 10.0


class ClientStory(RuleBasedStateMachine):
    """A client whose jobs are answered, once or more often, and whose connections are lost.

    The model: the first result settles a job, a loss settles those without a timeout, nothing settles one again.
    """

    waiting: dict[int, Job]
    settled: list[Job]

    def __init__(
        self, driver: ClientProcess, peer: Peer, redis: Redis, proxy: Proxy, *, concurrent: bool
    ) -> None:
        super().__init__()
        self.driver = driver
        self.peer = peer
        self.redis = redis
        self.proxy = proxy
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
        seq = self.driver.submit("echo", "sequence", LONG_MS if patient else None)
        job = self.waiting[seq] = self.peer.claim()
        self.patient |= {seq} if patient else set()
        self.proxy.notifier.wait(lambda: not self.proxy.under_way(job.id), "the reply to the push")

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
        self.proxy.drop(how=how)
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
            self.proxy.notifier.happens(
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
        outcome, _ = run_after_a_loss(self.driver, self.peer, self.proxy.notifier, "after a loss")
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
        """In the end, the jobs that wait are answered; the client stays alive for the next sequence."""
        try:
            while self.waiting:
                self.answer(0, 0)
            self.connect_again()
            self.each_job_is_settled_once()
        except BaseException:
            self.driver.kill()
            raise


@pytest.mark.requirement("client.settle.once", "client.lost.waits", "client.lost.settles")
@pytest.mark.dimensions(
    occasion=("again", "reconnect"),
    moment="outstanding",
    connection=("all", "cut"),
    caller=("timeout", "no timeout"),
    repetition=("faults", "ids"),
)
def test_every_story_of_a_client_ends_well(
    client: StartClient,
    peer: Peer,
    redis: Redis,
    proxy: Proxy,
    implementation: Implementation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However jobs, results and losses are interleaved, every job is settled once, and rightly."""
    concurrent = "concurrent-client" in implementation.features
    drivers = [client()]

    def sequence() -> ClientStory:
        if not drivers[-1].running:
            drivers.append(client())
        return ClientStory(drivers[-1], peer, redis, proxy, concurrent=concurrent)

    def tell() -> None:
        run_state_machine_as_test(sequence, settings=STORIES)  # type: ignore[arg-type] # any maker

    run(tell, monkeypatch)
