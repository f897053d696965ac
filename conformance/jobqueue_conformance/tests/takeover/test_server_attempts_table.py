"""What `attempts` makes of entries that aren't plain jobs: each is counted, and the first line of the table decides."""

from dataclasses import replace

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.redis_servers.acl import EVERYTHING, PASSWORD, set_user
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.manifest import Implementation
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.verdicts import require

LIMIT = 3
NO_JOBS = {
    "no JSON": b"no JSON, and counted",
    "no UTF-8": b'{"method":"echo","id":"\xff\xfe","channel":"x"}',
    "no object": b"[]",
    "nothing": b"",
}


@pytest.mark.requirement("server.attempts.counts")
@pytest.mark.dimensions(
    size="8", occasion=("restart", "recovery"), answer="another type", handler="exception"
)
def test_whatever_is_found_is_counted(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, implementation: Implementation
) -> None:
    """What a server finds is counted by its bytes, also where it can't be read, or is answered without being run."""
    features = implementation.features
    plain = peer.job("echo", "plain")
    dead = [replace(plain, message=message) for message in NO_JOBS.values()]
    jobs = [plain, *(peer.job(name, {"message": "x"}) for name in ("fail", "unknown", ""))]
    late = [peer.job("echo", "late", expires_at_ms=1)] if "expiry" in features else []
    peer.place(*dead, *late, *jobs)

    server()
    peer.wait_settled(*jobs)
    gone = [each.message for each in (*dead, *late)]
    peer.wait_gone(*gone, requirement="server.dead.removed")
    found = [each.message for each in (*dead, *late, *jobs)]
    counted = {str(message)[:60]: redis.get(keys.count(message)) for message in found}

    require(
        list(counted.values()) == [b"1"] * len(found),
        "server.attempts.counts",
        expected="a count of 1 for each entry",
        got=counted,
    )


@pytest.mark.requirement("server.attempts.limit")
@pytest.mark.dimensions(
    size="8",
    occasion="recovery",
    answer="error",
    settings=("limit", "rights", "names"),
    handler="exception",
)
def test_what_is_given_up_is_judged_by_the_first_line_that_applies(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    keys: Keys,
    implementation: Implementation,
) -> None:
    """Spent jobs are given up, whatever else is to be said of them; one that can't be answered is dead in silence."""
    features = implementation.features
    allowed = f"{keys.queue}:allowed:1"
    foreign = "foreign:1"  # where Redis lets it publish, and a prefix doesn't
    spent = [peer.job(name, "spent", channel=allowed) for name in ("echo", "unknown", "")]
    if "expiry" in features:
        spent.append(peer.job("echo", "spent", channel=allowed, expires_at_ms=1))
    silent = [peer.job("echo", "forbidden", channel=f"{keys.queue}:forbidden:1")]
    if "channel-prefix" in features:
        silent.append(peer.job("echo", "foreign", channel=foreign))
    unread = replace(silent[0], message=b"no JSON, and spent")
    last = peer.job("echo", "last", channel=allowed)
    for job in (*spent, *silent, unread):
        redis.set(keys.count(job.message), LIMIT)
    peer.place(*spent, *silent, unread, last)
    channels = (f"&{keys.queue}:allowed:*", f"&{foreign}")
    set_user(redis_server, "somebody", PASSWORD, *EVERYTHING, "resetchannels", *channels)

    server(
        user="somebody",
        password=PASSWORD,
        channel_prefix=f"{keys.queue}:" if "channel-prefix" in features else "",
    )
    buried = [job.message for job in (*spent, *silent, unread)]
    peer.wait_gone(*buried, requirement="server.attempts.limit")
    peer.wait_settled(last)

    require_given_up(peer, spent)
    answered = [job.parameters for job in silent if peer.received(job)]
    require(
        not answered,
        "server.attempts.limit",
        expected="no answer on a channel where the server may not publish",
        got=answered,
    )
    dead = redis.lrange(keys.dead, 0, -1)
    require(
        sorted(dead) == sorted(buried),
        "server.attempts.limit",
        expected="all but the last entry on the dead list",
        got=dead,
    )


def require_given_up(peer: Peer, jobs: list[Job]) -> None:
    """Each of the jobs has one answer, which says that it was given up."""
    codes = [[result.get("error", {}).get("code") for result in peer.received(job)] for job in jobs]
    require(
        codes == [["too-many-attempts"]] * len(jobs),
        "server.attempts.limit",
        expected="too-many-attempts for each",
        got=codes,
    )
