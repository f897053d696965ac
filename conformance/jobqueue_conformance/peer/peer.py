"""The suite's own other side, on raw Redis commands: a client that pushes and listens, a server that answers.

Every wait on a server ends early: when it has exited, or has been idle for a moment although something is missing.
"""

import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import redis

from jobqueue_conformance.peer.observer import Message, Observer
from jobqueue_conformance.proxy import resp
from jobqueue_conformance.proxy.events import ASKED, HEARD, KIT, Event
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.proxy.waiting import Budget, Hung, Notifier
from jobqueue_conformance.spec import messages
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.messages import Job, MalformedMessage
from jobqueue_conformance.spec.verdicts import fail, require

if TYPE_CHECKING:
    from jobqueue_conformance.programs.client import ClientProcess
    from jobqueue_conformance.programs.server import ServerProcess

ASK_EVERY_S = 0.05
NOTED = 8  # words of a command of its own
KEEP_MS = 600_000
MOMENT_S = 1.0  # a handler's thread can lag behind the claim that its server has sent already


def unique_id() -> str:
    """A unique id that is not a number and has no leading zero.

    Special tests ask how a server handles such ids; here they would only occur by chance.
    """
    return f"job-{uuid.uuid4().hex[:12]}"


class Peer:
    """Is connected to the real Redis, never through the proxy."""

    def __init__(
        self, redis: redis.Redis, keys: Keys, observer: Observer, notifier: Notifier, proxy: Proxy
    ) -> None:
        self.channel = keys.channel()
        self.servers: list[ServerProcess] = []
        self.clients: list[ClientProcess] = []
        self.moment_s = MOMENT_S
        self._redis = redis
        self._keys = keys
        self._observer = observer
        self._notifier = notifier
        self._proxy = proxy
        self._asked: list[Event] = []
        self._malformed: dict[str, MalformedMessage] = {}
        self._results: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        self._read = 0
        self._claims = f"{keys.queue}:in-process:the-suite"

    # As a client.

    def job(self, method: str = "echo", parameters: Any = None, **members: Any) -> Job:
        """A job that isn't pushed; `members` override the id and channel that it gets."""
        job = {"channel": self.channel, "id": unique_id(), **members}
        message = messages.written(method=method, parameters=parameters, **job)
        return Job(message, job["id"], job["channel"], method, parameters)

    def push(self, method: str = "echo", parameters: Any = None, **members: Any) -> Job:
        """Push a job, as a client would."""
        job = self.job(method, parameters, **members)
        self.push_message(job.message)
        return job

    def push_job(self, *jobs: Job) -> None:
        """Push jobs that exist already, the first one first."""
        self.push_message(*(job.message for job in jobs))

    def push_message(self, *messages: bytes) -> None:
        """Push any bytes, the first one first."""
        self._note("LPUSH", self._keys.queue, *messages)
        self._redis.lpush(self._keys.queue, *messages)

    def place(self, *jobs: Job, in_process: str | None = None) -> None:
        """Put jobs on an in-process list, the first one claimed first."""
        target = in_process or self._keys.in_process()
        for job in jobs:
            self._note("LPUSH", target, job.message)
            self._redis.lpush(target, job.message)

    def result(self, job: Job, requirement: str = "server.publish.once") -> dict[str, Any]:
        """Wait for the first result of a job."""
        expected = f"a result of {_short(job)}"
        first: dict[str, Any] = self.wait(lambda: self.received(job), requirement, expected, job)[0]
        if not _about_content(requirement):
            require_right(job, first)
        return first

    def results(self, job: Job) -> list[dict[str, Any]]:
        """Every result of a job that was published until now."""
        self._observer.fence()
        received = list(self.received(job))
        for result in received:
            require_right(job, result)
        return received

    def listen_again(self) -> None:
        """Subscribe again, after a restart of Redis."""
        self._observer.subscribe()

    def messages(self) -> list[Message]:
        """Everything that was published until now."""
        self._observer.fence()
        return list(self._observer.messages)

    def wait_settled(self, *jobs: Job) -> None:
        """Wait until every job is answered, and has left the queue and the lists, and nothing of it is under way."""
        for job in jobs:
            self.result(job)
        self.wait_gone(*(job.message for job in jobs), requirement="server.remove.finished")
        for job in jobs:
            self._notifier.wait(
                lambda each=job: not self._proxy.under_way(each.id),  # type: ignore[misc] # a default's type
                f"the last reply about {_short(job)}",
            )

    def wait_gone(self, *messages: bytes, requirement: str, patience_s: float = 0.0) -> None:
        """Wait until these bytes have left the queue and the in-process lists."""
        wanted = set(messages)
        self.wait(
            lambda: not wanted & set(self.waiting()),
            requirement,
            "an entry that leaves the queue and the in-process list",
            patience_s=patience_s,
        )

    def waiting(self) -> list[bytes]:
        """The entries of the queue and of the in-process lists of the servers that were started."""
        lists = {self._keys.queue, *(each.in_process for each in self.servers)}
        with self._redis.pipeline(transaction=False) as pipe:
            for key in sorted(lists):
                pipe.lrange(key, 0, -1)
            return [entry for entries in pipe.execute() for entry in entries]

    def wait(
        self,
        look: Callable[[], Any],
        requirement: str | Callable[[], str],
        expected: str,
        job: Job | None = None,
        patience_s: float = 0.0,
    ) -> Any:
        """Wait for an effect of the servers under test.

        Args:
            look: returns it, once it is there.
            requirement: what is broken without it, or what finds that out.
            expected: what it is, for a reader.
            job: one whose handler takes its time.
            patience_s: how long an idle server can still bring it about, as by its second look.

        Raises:
            Failure: of the requirement, once no server can bring it about any more.
        """

        def give_up(got: str) -> NoReturn:
            broken = requirement if isinstance(requirement, str) else requirement()
            fail(broken, expected=expected, got=got)

        for server in self.servers:
            server.reset_idle()
        patience_s += max(self.moment_s, self._notifier.deadline_s / 10) + _duration_s(job)
        idle: Budget | None = None
        asked_s = 0.0

        def look_or_give_up() -> Any:
            nonlocal idle, asked_s
            now_s = time.monotonic()
            if now_s - asked_s < ASK_EVERY_S:
                return look()
            asked_s = now_s
            reason = self._why_nothing_comes()
            if reason is None:
                idle = None
            elif idle is None:
                idle = Budget(patience_s)
            found = look()
            if found or idle is None or idle.left_s() > 0:
                return found
            return give_up(f"nothing, and {reason}{self._where(job)}")

        try:
            return self._notifier.wait(
                look_or_give_up, expected, self._notifier.deadline_s + patience_s
            )
        except Hung as hung:
            give_up(f"nothing: {hung}")

    def _where(self, job: Job | None) -> str:
        """On which lists the message of a job is, as the end of a sentence."""
        if job is None:
            return ""
        lists = [self._keys.queue, *(each.in_process for each in self.servers), self._keys.dead]
        there = [key for key in lists if job.message in self._redis.lrange(key, 0, -1)]
        return f"; the message of {_short(job)} is on {' and on '.join(there)}" if there else ""

    def _why_nothing_comes(self) -> str | None:
        """Why no server will do anything more; None while one still may."""
        running = [each for each in self.servers if each.running]
        if running:
            return "the server is idle" if all(each.idle() for each in running) else None
        if not self.servers:
            return None
        last = self.servers[-1]
        if not last.endpoint.named_queue:
            last.check_can_run()
        return last.explain_exit()

    # As a server.

    def claim(self, deadline_s: float | None = None) -> Job:
        """Wait for a job from the client under test, and claim it."""

        def claimed() -> Job | None:
            job = self.take()
            if job is None and self.clients:
                self.clients[-1].check()  # earlier ones may have been ended by the test
            return job

        return self._notifier.wait(claimed, "a job from the client", deadline_s)

    def take(self) -> Job | None:
        """Claim a job of the client under test, where there is one."""
        message = self._redis.lmove(self._keys.queue, self._claims, "RIGHT", "LEFT")
        if message is None:
            return None
        assert isinstance(message, bytes)
        self._note("LMOVE", self._keys.queue, self._claims, "RIGHT", "LEFT")
        try:
            return messages.read_job(message)
        except MalformedMessage as error:
            fail("client.job.form", expected="a job", got=f"a message that {error}")

    def take_all(self) -> list[Job]:
        """Claim every job of the client under test that there is, in one step."""
        with self._redis.pipeline() as pipe:
            pipe.lrange(self._keys.queue, 0, -1)
            pipe.delete(self._keys.queue)
            waiting, _ = pipe.execute()
        return [messages.read_job(message) for message in reversed(waiting)]

    def answer_all(self, jobs: list[Job]) -> None:
        """Answer jobs by their parameters, in this order."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job in jobs:
                pipe.publish(job.channel, messages.written(id=job.id, result=job.parameters))
            pipe.execute()

    def answer(self, job: Job, **outcome: Any) -> int:
        """Publish `result=…` or `error={…}`, and remove the job; return the number of subscribers."""
        receivers = self.publish(job.channel, messages.written(id=job.id, **outcome))
        self._redis.lrem(self._claims, -1, job.message)  # type: ignore[arg-type] # bytes do, too
        return receivers

    def keep(self, job: Job, **outcome: Any) -> None:
        """Store `result=…` or `error={…}` of a job for a while, without publishing it."""
        self.keep_message(job, messages.written(id=job.id, **outcome))

    def keep_message(self, job: Job, message: bytes) -> None:
        """Store any bytes as the result of a job."""
        key = self._keys.result(job.message)
        self._note("SET", key, message, "PX", str(KEEP_MS))
        self._redis.set(key, message, px=KEEP_MS)

    def publish(self, channel: str, message: bytes) -> int:
        """Publish any bytes; return the number of subscribers, without the suite's own."""
        self._note("PUBLISH", channel, message)
        return int(self._redis.publish(channel, message)) - 1

    @property
    def events(self) -> list[Event]:
        """What it sent to Redis, and what it received from there."""
        heard = [
            Event(each.at_s, KIT, 0, HEARD, resp.command("message", each.channel, each.data))
            for each in self._observer.messages
        ]
        return self._asked + heard

    def listens(self, channel: str) -> bool:
        """Whether a client is subscribed to a channel."""
        [(_, count)] = self._redis.pubsub_numsub(channel)
        return int(count) > 0

    def _note(self, *words: str | bytes) -> None:
        """Note a command of its own; of many messages the first."""
        shown, left_out = words[:NOTED], len(words) - NOTED
        more = (f"and {left_out} more",) if left_out > 0 else ()
        command = resp.command(*shown, *more)
        self._asked.append(Event(time.monotonic(), KIT, 0, ASKED, command))

    def received(self, job: Job) -> list[dict[str, Any]]:
        """The results of a job that were received by now; each must be valid."""
        while self._read < len(self._observer.messages):
            message = self._observer.messages[self._read]
            self._read += 1
            try:
                result = messages.read_result(message.data)
            except RecursionError:
                continue  # the answer to a job that need not be answered
            except MalformedMessage as error:
                self._malformed[message.channel] = error
            else:
                self._results[message.channel, result["id"]].append(result)
        if malformed := self._malformed.get(job.channel):
            fail(malformed.requirement, expected="a result", got=f"a message that {malformed}")
        return self._results[job.channel, job.id]


def require_right(job: Job, result: dict[str, Any]) -> None:
    """The result is what the handler of the job's method gives, so that no test accepts a wrong one."""
    codes = {"fail": "handler-error", "": "invalid-job"}
    if job.method in {"echo", "wait"}:
        right, requirement = (
            messages.equal(result.get("result"), job.parameters),
            "server.result.value",
        )
        expected = f"the value {job.parameters!r:.200}"
    else:
        expected = codes.get(job.method, "method-not-found")
        right, requirement = (
            result.get("error", {}).get("code") == expected,
            f"server.run.{expected}",
        )
    require(right, requirement, expected=f"{expected} for {_short(job)}", got=f"{result!r:.200}")


def _about_content(requirement: str) -> bool:
    """Whether a test of it judges by itself what a result says."""
    own = (
        "server.run.",
        "server.result.",
        "server.attempts.",
        "server.expiry.",
        "server.kept.",
    )
    family = requirement.startswith(own)
    return family and requirement != "server.run.goes-on"


def _short(job: Job) -> str:
    return f"the job {job.id} ({job.method})"


def _duration_s(job: Job | None) -> float:
    """How long the handler of this job takes."""
    if job is None or job.method != "wait":
        return 0.0
    return float(job.parameters["ms"]) / 1000
