"""URLs that redis-py reads as something else than they mean are refused, and no part is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from jobqueue import Client, Server, aio

from tests.faults.serving import make

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.serving import AnyServer, Program, Thread

PASSWORD = "hush"

MISREAD = {
    "the rest is a fragment": "redis://:{hush}#abc@{at}",
    "another host is asked": "redis://:#{hush}@{at}",
    "a number before it is a port": "redis://:4711#{hush}@{at}",
    "a fragment at the end": "redis://{at}#{hush}",
    "the rest is a path": "redis://:1/{hush}@{at}",
    "the user is a host": "redis://{hush}/x:y@{at}",
    "the rest is a query": "redis://:1?{hush}@{at}",
    "the rest is an option": "redis://:1?client_name={hush}@{at}",
    "a line break vanishes": "redis://:{hush}\n@{at}",
    "a tab vanishes": "redis://:{hush}\t@{at}",
    "a zero byte": "redis://:{hush}\0@{at}",
    "a line break at the end": "redis://:{hush}@{at}\n",
    "bytes that aren't UTF-8": "redis://:{hush}\udce9@{at}",
    "escapes that aren't UTF-8": "redis://:{hush}%E9@{at}",
    "no database means 0": "redis://:{hush}@{host}/abc",
    "two databases mean 12": "redis://:{hush}@{host}/1/2",
    "a slash more": "redis://:{hush}@{host}//1",
    "an underscore vanishes": "redis://:{hush}@{host}/1_0",
    "a negative database": "redis://:{hush}@{host}/-1",
    "digits of another script": "redis://:{hush}@{host}/\u0661",
    "port 0 means 6379": "redis://:{hush}@localhost:0/0",
    "a password in an IPv6 address": "redis://:[{hush}@{at}",
    "TLS is no different": "rediss://:{hush}#abc@{at}",
    "a socket's relative path": "unix://{hush}/redis.sock",
    "a socket's path begins early": "unix://:1/{hush}@/redis.sock",
    "a socket's path ends early": "unix://:1@/redis#{hush}.sock",
}


def url(which: str, redis_url: str) -> str:
    """Write a URL that would reach Redis if it were read in one of the possible ways."""
    at = redis_url.removeprefix("redis://")
    return MISREAD[which].format(hush=PASSWORD, at=at, host=at.rpartition("/")[0])


@pytest.mark.parametrize("which", MISREAD)
@pytest.mark.parametrize("make_one", [Client, Server, aio.Client, aio.Server])
def test_a_url_that_would_be_misread_is_refused(
    make_one: Callable[[str], Any], redis_url: str, which: str
) -> None:
    """client.security.password, server.security.password: before anything is asked or shown."""
    with pytest.raises(ValueError, match=r"^not a valid Redis URL: ") as refused:
        make_one(url(which, redis_url))

    assert PASSWORD not in str(refused.value)
    assert refused.value.__suppress_context__


@pytest.mark.parametrize(
    "arguments,which",
    [
        (["status"], "the rest is a fragment"),
        (["run", "echo", "--timeout", "5"], "the rest is a path"),
        (["dead", "list"], "bytes that aren't UTF-8"),
        (["requeue", "web-1"], "no database means 0"),
    ],
)
def test_the_command_line_refuses_it_in_one_sentence(
    command: Callable[..., Program], redis_url: str, arguments: list[str], which: str
) -> None:
    """Status 2, and neither the sentence nor a traceback shows a part of it."""
    ended = command("-m", "jobqueue", *arguments, env={"REDIS_URL": url(which, redis_url)})

    assert ended.status() == 2
    assert ended.stderr.startswith("jobqueue: --redis or REDIS_URL: not a valid Redis URL: ")
    assert ended.stderr.count("\n") == 1
    assert PASSWORD not in ended.stderr


@pytest.mark.parametrize(
    "password,database",
    [
        ("hush", ""),
        ("hush", "/"),
        ("hush", "/3"),
        ("hush", "?db=3"),
        ("a%23b", "/0"),
        ("a%2Fb%3Fc%40d", "/0"),
        ("100%25", "/0"),
        ("a:b@c", "/0"),
        ("%C3%A9", "/0"),
        ("é d", "/0"),
    ],
)
def test_what_is_read_as_it_was_meant_works(
    thread: Callable[[AnyServer], Thread],
    redis_url: str,
    redis: Any,
    password: str,
    database: str,
) -> None:
    """A password with its special characters percent-encoded reaches Redis as it is."""
    meant = {"a%23b": "a#b", "a%2Fb%3Fc%40d": "a/b?c@d", "100%25": "100%", "%C3%A9": "é"}
    redis.acl_setuser(
        "worker",
        enabled=True,
        passwords=[f"+{meant.get(password, password)}"],
        keys=["*"],
        channels=["*"],
        commands=["+@all"],
    )
    host = redis_url.removeprefix("redis://").rpartition("/")[0]
    source = f"redis://worker:{password}@{host}{database}"
    server = make("threads", source)
    server.on("echo", lambda value: value)
    running = thread(server)

    with Client(source) as jobs:
        assert running.settled(jobs.run("echo", 1)).result(0) == 1
