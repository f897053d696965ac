"""URLs of several hosts, and what sentinels and nodes of a cluster reply, without any I/O."""

from __future__ import annotations

from typing import Any

import pytest
from jobqueue import Client, Server, aio
from jobqueue.protocol.commands import ErrorReply
from jobqueue.protocol.keys import Keys
from jobqueue.wire import pools
from jobqueue.wire.connection import error_reply
from jobqueue.wire.frames import Frames
from jobqueue.wire.lookup import ClusterLookup, NotKnownError, SentinelLookup, slot_of
from jobqueue.wire.urls import parse
from redis.exceptions import ClusterCrossSlotError, MovedError, ResponseError

SLOT = 6566  # of job-queue, as Redis says by CLUSTER KEYSLOT
NODES = [
    [0, 5460, [b"10.0.0.1", 7001, b"id"], [b"10.0.0.4", 7004, b"id"]],
    [5461, 16383, [b"10.0.0.2", 7002, b"id", [b"hostname", b"two"]], [b"", 7005, b"id"]],
]


@pytest.mark.parametrize(
    "url,addresses",
    [
        ("redis+cluster://a", [("a", 6379)]),
        ("redis+cluster://a:1,b,[::1],[fe80::2]:4/0", [("a", 1), ("b", 6379), ("::1", 6379), ("fe80::2", 4)]),
        ("rediss+cluster://me:pw@a:1,b:2?socket_timeout=9", [("a", 1), ("b", 2)]),
        ("redis+sentinel://a,[::1]:5/main", [("a", 26379), ("::1", 5)]),
    ],
)  # fmt: skip
def test_the_hosts_of_a_url(url: str, addresses: list[tuple[str, int]]) -> None:
    """Ports have defaults, and hosts of IPv6 are in brackets."""
    assert list(parse(url).addresses) == addresses


def test_a_url_of_sentinel_has_two_sets_of_credentials() -> None:
    """Those before the hosts are Redis's; the sentinels have their own, and TLS like Redis."""
    url = (
        "rediss+sentinel://me:p%40ss@a:1,b:2/my%20main/3?ssl_ca_certs=/ca.pem&socket_timeout=9"
        "&sentinel_username=watch&sentinel_password=s%26cret"
    )

    location = parse(url)
    connection: Any = pools.pool_of(url).connection_kwargs
    _, asking = connection["asking"]

    assert location.service == "my main"
    assert [connection[name] for name in ("username", "password", "db")] == ["me", "p@ss", 3]
    assert [asking[name] for name in ("username", "password")] == ["watch", "s&cret"]
    assert connection["ssl_ca_certs"] == asking["ssl_ca_certs"] == "/ca.pem"
    assert "db" not in asking


def test_sentinels_may_do_without_tls_and_without_credentials() -> None:
    """Redis's credentials never reach the sentinels."""
    connection: Any = pools.pool_of(
        "rediss+sentinel://me:hush@a/main?ssl_ca_certs=/ca.pem&sentinel_ssl=0"
    ).connection_kwargs

    asked_by, asking = connection["asking"]
    assert asked_by.__name__ == "Connection"
    assert not {"username", "password", "ssl_ca_certs"} & set(asking)


BAD = [
    "redis+sentinel://hush@/main",
    "redis+sentinel://a",
    "redis+sentinel://a/main/one",
    "redis+sentinel://a/main/0/1",
    "redis+sentinel://:hush/x@a/main",
    "redis+sentinel://:hush@b@a/main",
    "redis+sentinel://a/main?bogus=1",
    "redis+sentinel://a/main?sentinel_bogus=1",
    "redis+sentinel://a,::1/main",
    "redis+sentinel://a:0/main",
    "redis+sentinel://a:65536/main",
    "redis+cluster://",
    "redis+cluster://a,,b",
    "redis+cluster://a/1",
    "redis+cluster://a#b",
    "redis+cluster://a:port",
    "redis+nodes://a",
    "unix+cluster://a",
    "+://a",
]


@pytest.mark.parametrize("make", [Client, Server, aio.Client, aio.Server])
@pytest.mark.parametrize("url", BAD)
def test_a_bad_url_of_several_hosts_is_refused(make: type[Any], url: str) -> None:
    """In one sentence that contains nothing of the URL."""
    with pytest.raises(ValueError, match="not a valid Redis URL") as refused:
        make(url, queue="{job-queue}")

    assert "hush" not in str(refused.value)


def test_sentinels_name_the_master() -> None:
    """A sentinel that doesn't know it says nil."""
    lookup = SentinelLookup([("a", 1)], "main")

    assert lookup.read([b"10.0.0.9", b"6380"], ("a", 1)) == ("10.0.0.9", 6380)
    with pytest.raises(NotKnownError, match="doesn't know the master 'main'"):
        lookup.read(None, ("a", 1))


def test_nodes_name_the_primary_of_the_slot() -> None:
    """Those that they name are asked, too; a node without an address is the one that was asked."""
    lookup = ClusterLookup([("a", 1)], SLOT)

    assert lookup.read(NODES, ("a", 1)) == ("10.0.0.2", 7002)
    assert set(lookup.turn()) == {
        ("10.0.0.1", 7001),
        ("10.0.0.4", 7004),
        ("10.0.0.2", 7002),
        ("a", 7005),
        ("a", 1),
    }
    assert ClusterLookup([("a", 1)], 0).read(NODES, ("a", 1)) == ("10.0.0.1", 7001)
    with pytest.raises(NotKnownError, match="no node serves the slot 6566"):
        lookup.read(NODES[:1], ("a", 1))


def test_addresses_are_converted_if_the_client_says_so() -> None:
    """As behind a network address translation."""
    lookup = ClusterLookup([("a", 1)], SLOT, lambda address: ("outside", address[1]))

    assert lookup.read(NODES, ("a", 1)) == ("outside", 7002)


def test_each_look_begins_with_another_address() -> None:
    """So a node with an outdated view isn't the only one that is believed."""
    lookup = SentinelLookup([("a", 1), ("b", 2), ("c", 3)], "main")

    firsts = [next(iter(lookup.turn())) for _ in range(6)]

    assert set(firsts[:3]) == set(firsts[3:]) == {("a", 1), ("b", 2), ("c", 3)}


@pytest.mark.parametrize(
    "queue,in_process",
    [
        ("{job-queue}", None),
        ("{job-queue.0}", None),
        ("shop{1}low", "jobs-of{1}"),
        ("{job-queue}", "job-queue"),
    ],
)
def test_keys_in_one_slot_are_accepted(queue: str, in_process: str | None) -> None:
    """Whatever they are called: the slot counts."""
    assert slot_of(Keys.of(queue, "{odd}", in_process)) >= 0


@pytest.mark.parametrize("make", [Client, Server, aio.Client, aio.Server])
@pytest.mark.parametrize(
    "queue,right",
    [("job-queue", r"use the queue \{job-queue\}$"), ("a{}b", "use the queue a name like")],
)
def test_a_queue_whose_keys_would_scatter_is_refused(
    make: type[Any], queue: str, right: str
) -> None:
    """The sentence names the right one."""
    with pytest.raises(ValueError, match=right):
        make("redis+cluster://localhost", queue=queue)


def test_a_list_in_another_slot_is_refused() -> None:
    """No command could move a job there."""
    server = Server("redis+cluster://localhost", queue="{job-queue}")

    with pytest.raises(ValueError, match=r"in-process key that begins with \{job-queue\}:"):
        server.with_settings(in_process="elsewhere", takeover=False)
    with pytest.raises(ValueError, match=r"use the queue \{job-queue\}"):
        server.with_settings(queue="job-queue")


def test_several_hosts_have_one_name() -> None:
    """The lock of a processor doesn't depend on their order, and contains no password."""
    one, other = "redis+cluster://:hush@b:2,a:1", "redis+cluster://a:1,b:2"
    keys = Keys.of("{q}", "")

    assert pools.identity(pools.pool_of(one, keys)) == "a:1,b:2/0"
    assert pools.identity(pools.pool_of(other, keys)) == "a:1,b:2/0"
    assert pools.identity(pools.pool_of("redis+sentinel://a,b/main/2")) == "main/2"
    assert pools.identity(pools.pool_of("redis://[::1]:7/2")) == "[::1]:7/2"


@pytest.mark.parametrize("kind", [MovedError, ClusterCrossSlotError])
def test_a_url_of_one_node_is_named_with_the_error(kind: type[ResponseError]) -> None:
    """By each way to read it; an error that has another cause stays as it is."""
    code = {MovedError: "MOVED", ClusterCrossSlotError: "CROSSSLOT"}[kind]
    words = "6566 127.0.0.1:7652" if code == "MOVED" else "in two"
    named = ErrorReply(code, f"{code} {words} (the URL of a cluster begins with redis+cluster://)")

    assert error_reply(kind(words)) == named
    assert Frames().of(f"-{code} {words}\r\n".encode()) == [named]
    assert Frames().of(b"-ERR other\r\n") == [error_reply(ResponseError("ERR other"))]
    assert error_reply(ResponseError("ERR other")) == ErrorReply("ERR", "ERR other")
