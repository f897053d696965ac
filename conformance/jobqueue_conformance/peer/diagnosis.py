"""What is wrong with an adapter, in one sentence, when the first job of an implementation doesn't go well.

Only the smoke test uses it, so that one mistake is one failure, not forty.
"""

from contextlib import suppress
from typing import Any

import redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.client import ClientProcess, Outcome
from jobqueue_conformance.programs.process import Exited, SetupError
from jobqueue_conformance.programs.server import ServerProcess
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.proxy.waiting import Hung, Notifier
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.verdicts import Failure, fail

STOPS_WITHIN_S = 2.0


def first_result(peer: Peer, job: Job, keys: Keys, redis: redis.Redis) -> dict[str, Any]:
    """The result of the first job that a server is given, or what is wrong."""
    try:
        result = peer.result(job, "server.run.handler")
    except Failure as failure:
        raise SetupError(_why_no_result(peer, job, keys, redis)) from failure
    error = result.get("error", {})
    if error.get("code") == "method-not-found":
        raise SetupError(
            "no handler is registered for method 'echo': the server has to register echo, fail and wait"
        )
    return result


def _why_no_result(peer: Peer, job: Job, keys: Keys, redis: redis.Redis) -> str:
    server = peer.servers[-1]
    if not server.running:
        return server.explain_exit()
    for message in peer.messages():
        if message.channel != job.channel and job.id.encode() in message.data:
            fail(
                "server.publish.channel",
                expected=f"the result on the job's channel, {job.channel}",
                got=f"answered on the wrong channel, {message.channel}",
            )
        if message.channel == job.channel:
            fail(
                "server.result.id",
                expected=f"a result with the job's id, {job.id}",
                got=f"a message without it: {message.data[:200]!r}",
            )
    for key in redis.keys(f"{keys.queue}*"):
        assert isinstance(key, bytes)
        name = key.decode(errors="replace")
        if redis.type(key) != b"list" or job.message not in redis.lrange(name, 0, -1):
            continue
        if name == keys.queue:
            return "the server named the queue and never claimed the job that was pushed to it"
        if name == server.in_process:
            return "the server claimed the job and never published a result"
        return f"the server moved the job to {name}, not to its list {server.in_process}"
    return "the server removed the job from the queue and never published a result"


def check_signals_arrive(server: ServerProcess, proxy: Proxy, notifier: Notifier) -> None:
    """Raise where SIGTERM ends a wrapper and leaves the server running."""
    server.terminate()
    try:
        notifier.wait(lambda: not server.running, "the server to stop", STOPS_WITHIN_S)
        notifier.wait(
            lambda: not proxy.connected(server.name), "its connections to end", STOPS_WITHIN_S
        )
    except Hung as hung:
        if not server.running:
            raise SetupError(
                "your command is a wrapper that doesn't pass on signals: SIGTERM ended it, and the server"
                " went on; let the wrapper exec the server"
            ) from hung


def first_job(peer: Peer) -> Job:
    """The first job that a client pushes, or what is wrong."""
    try:
        return peer.claim()
    except Hung as hung:
        client = peer.clients[-1]
        if not client.endpoint.named_queue:
            raise SetupError(client.endpoint.inactivity) from hung
        raise SetupError("the client named the queue and pushed no job to it") from hung


def first_outcome(client: ClientProcess, seq: int) -> Outcome:
    """The outcome of the first job that a client ran, or what is wrong."""
    try:
        return client.outcome(seq)
    except Hung as hung:
        others = [each.seq for each in client.lines]
        if others:
            raise SetupError(
                f"the client's driver answered with seq {others[0]}, not with {seq}"
            ) from hung
        if _writes_at_its_end(client, seq):
            raise SetupError(
                "the client's driver wrote the outcome only when its input ended: it has to flush after each line"
            ) from hung
        fail(
            "client.settle.result",
            expected="the outcome of a job that was answered",
            got=f"{hung.got}, and none when the input ended",
        )


def _writes_at_its_end(client: ClientProcess, seq: int) -> bool:
    with suppress(Hung, Exited):
        client.close()
        client.outcome(seq)
    return bool(client.outcomes(seq))


def check_ends_with_input(client: ClientProcess) -> None:
    """Raise where the driver doesn't exit with 0 when its input ends."""
    try:
        status = client.close()
    except Hung as hung:
        raise SetupError("the client's driver doesn't exit when its input ends") from hung
    if status != 0:
        raise SetupError(f"when its input ended, {client.explain_exit()}")
