"""Random sequences for a server: Hypothesis interleaves jobs and faults, and a small model says what must follow.

A sequence that fails is printed as a program, and replayed by the blob that is printed with it.
"""

from typing import TYPE_CHECKING

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

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.server import ServerProcess
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy.proxy import How, Proxy
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.running.examples import run, stories
from jobqueue_conformance.spec.verdicts import require

if TYPE_CHECKING:
    from jobqueue_conformance.spec.messages import Job

STORIES = settings(stories, max_examples=6, stateful_step_count=8)
UNANSWERED = "server.recovery.first"
LONGEST_LOOK_S = 6.0  # the second look comes after T, which is at most 5 s


class ServerStory(RuleBasedStateMachine):
    """Jobs and dead messages, and a server that is killed, stopped, cut off and started again.

    The model: a job is in the queue or on the server's list until it is answered, and in the end it is answered.
    """

    server: ServerProcess | None = None

    def __init__(
        self, server: StartServer, peer: Peer, redis: Redis, redis_server: RedisServer, proxy: Proxy
    ) -> None:
        super().__init__()
        self.start_server = server
        self.peer = peer
        self.redis = redis
        self.redis_server = redis_server
        self.proxy = proxy
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
    @rule(how=st.sampled_from(["fin", "rst"]), half_open=st.booleans())
    def drop(self, how: How, *, half_open: bool) -> None:
        """End the server's connections; Redis notices at once, or only later."""
        self.proxy.drop(how=how, half_open=half_open)

    @rule()
    def restart_redis(self) -> None:
        """Kill Redis, and start it again with its data; results that it has published are heard before."""
        self.proxy.refuse()
        self.proxy.drop()
        self.proxy.hang_up()
        self.peer.messages()
        self.redis_server.restart()
        self.redis.connection_pool.disconnect()
        self.peer.listen_again()
        self.proxy.accept_again()

    @rule()
    def answer_all(self) -> None:
        """Wait until the server has answered everything."""
        if self.server is not None:
            for job in self.jobs:
                self.peer.result(job, UNANSWERED)

    @invariant()
    def no_job_is_lost(self) -> None:
        """Every job is on a list, or is answered."""
        waiting = self.peer.waiting()
        self.peer.messages()  # hears all that has been published
        lost = [
            job for job in self.jobs if job.message not in waiting and not self.peer.received(job)
        ]
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
        self.proxy.hang_up()
        try:
            self.check_end()
        finally:
            self.server.kill()

    def check_end(self) -> None:
        """Every job has the right result, and nothing is left."""
        for job in self.jobs:
            self.peer.result(job, UNANSWERED)
            self.peer.results(job)  # which looks at every value
        self.peer.wait(lambda: not self.peer.waiting(), "server.remove.finished", "empty lists")


@pytest.mark.requirement("server.recovery.reconnect", "server.recovery.first")
@pytest.mark.dimensions(
    occasion=("again", "reconnect", "restart"),
    connection=("all", "cut", "half-open"),
    handler="exception",
    repetition="faults",
)
def test_every_story_of_a_server_ends_well(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However jobs, kills, losses and restarts are interleaved, every job is answered in the end."""
    redis_server.keep_data()
    peer.moment_s = LONGEST_LOOK_S

    def tell() -> None:
        run_state_machine_as_test(
            lambda: ServerStory(server, peer, redis, redis_server, proxy),  # type: ignore[arg-type] # any maker
            settings=STORIES,
        )

    run(tell, monkeypatch)
