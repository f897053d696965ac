"""A real Redis: empty for each test, restarted with its data, and, where it is the user's own, left alone."""

import pytest
from jobqueue_conformance.redis_servers import choice
from jobqueue_conformance.redis_servers.base import RedisUnavailable
from jobqueue_conformance.redis_servers.external import ExternalRedis
from jobqueue_conformance.redis_servers.local import LocalRedis
from jobqueue_conformance.spec.verdicts import Unsupported


def test_a_test_begins_with_nothing(redis_server: LocalRedis) -> None:
    """Emptying leaves no key, user, limit or script of the last test."""
    with redis_server.connect() as admin:
        admin.set("key", "value")
        admin.config_set("maxmemory", 1)
        admin.acl_setuser("somebody", enabled=True)
        script = admin.script_load("return 1")
        admin.replicaof("127.0.0.1", 1)

        redis_server.empty("jobs")

        assert admin.dbsize() == 0
        assert admin.config_get("maxmemory") == {"maxmemory": "0"}
        assert admin.acl_users() == ["default"]
        assert admin.script_exists(script) == [False]
        assert admin.info("replication")["role"] == "master"


def test_data_survive_a_kill_when_they_are_kept(redis_server: LocalRedis) -> None:
    """A restart finds every write, on the same connection object."""
    with redis_server.connect() as admin:
        admin.rpush("list", "before")
        redis_server.keep_data()
        admin.rpush("list", "after")

        redis_server.restart()

        assert admin.lrange("list", 0, -1) == [b"before", b"after"]
    redis_server.empty("jobs")


def test_a_server_of_the_user_is_never_flushed(redis_server: LocalRedis) -> None:
    """Only keys of the test's queue are deleted there, whatever characters the queue has."""
    url = f"redis://127.0.0.1:{redis_server.port}/1"
    foreign = ExternalRedis(url)
    with foreign.connect() as user:
        user.mset({"jobs-[a]": 1, "jobs-[a]:dead": 1, "jobs-a": 1, "mine": 1})

        foreign.empty("jobs-[a]")

        assert sorted(user.keys()) == [b"jobs-a", b"mine"]
    with pytest.raises(RedisUnavailable, match="holds 2 keys"):
        choice.choose(url, "", print)
    redis_server.empty("jobs")


@pytest.mark.parametrize("wanted", ["start", "kill", "keep_data"])
def test_a_server_of_the_user_is_never_set_or_restarted(
    redis_server: LocalRedis, wanted: str
) -> None:
    """What would need that is unsupported there."""
    foreign = ExternalRedis(f"redis://127.0.0.1:{redis_server.port}/2")

    with pytest.raises(Unsupported, match="is the user's own"):
        getattr(foreign, wanted)()


def test_a_server_that_cannot_be_had_is_one_sentence() -> None:
    """Neither a missing program nor an unreachable server is a traceback."""
    with pytest.raises(RedisUnavailable, match="is not a program"):
        choice.choose("/no/such/server", "", print)
    with pytest.raises(RedisUnavailable, match="can't be used"):
        choice.choose("redis://127.0.0.1:1/0", "", print)


def test_the_embedded_server_says_what_it_is(redis_server: LocalRedis) -> None:
    """The name and version are the server's own."""
    name, version = redis_server.version.split()

    assert name == "valkey"
    assert int(version.split(".")[0]) >= 7
    assert redis_server.description in choice.describe(redis_server.description, "")
