"""Executes every example of `protocol.md`: JSON by its schema, transcripts and ACLs on a Redis.

A transcript's line is `NAME > WORDS`, a command that the connection NAME sends, or `NAME < WORDS`,
the next reply or message that it receives, flattened. Both are split as a shell would.
"""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.redis_servers.choice import choose, open_server
from jsonschema import Draft202012Validator
from redis import ResponseError
from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.retry import Retry

SPEC = Path(__file__).parent
PROTOCOL = (SPEC / "protocol.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"(\w+) +([<>]) (.*)")
# Redis 7.0 words the errors of scripts differently.
REFUSAL = re.compile(r"permission|The user executing the script can't", re.IGNORECASE)
KINDS = {
    ("json", "job"),
    ("json", "result"),
    ("transcript", ""),
    ("acl", "client"),
    ("acl", "server"),
    ("acl", "attempts"),
    ("acl", "takeover"),
    ("lua", "renew"),  # test_scripts.py executes them
    ("lua", "release"),
    ("lua", "unregister"),
    ("lua", "inherit"),
    ("lua", "adopt"),
    ("acl", "expiry"),
    ("acl", "expiry-client"),
    ("acl", "kept-results"),
    ("acl", "kept-results-client"),
    ("acl", "status"),
    ("mermaid", ""),
}
PATIENCE_S = 10.0


@dataclass(frozen=True)
class Example:
    """One fenced block; `label` says in which line it begins."""

    kind: str
    role: str
    body: str
    label: str


def examples(kind: str) -> list[Any]:
    """The blocks of one kind, as parameters of a test."""
    found = [
        Example(
            match[1], match[2] or "", match[3], f"line {PROTOCOL.count(chr(10), 0, match.start())}"
        )
        for match in BLOCK.finditer(PROTOCOL)
    ]
    return [pytest.param(example, id=example.label) for example in found if example.kind == kind]


def validator(name: str) -> Draft202012Validator:
    """The validator of a schema."""
    path = SPEC.parent / "schemas" / f"{name}.schema.json"
    return Draft202012Validator(json.loads(path.read_text("utf-8")))


@pytest.fixture(scope="module", params=["embedded", *filter(shutil.which, ["redis-server"])])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A real server: the one that every machine has, and the machine's own."""
    server = open_server(choose(request.param, "", print), "")
    yield server
    server.close()


@pytest.fixture
def redis(server: RedisServer) -> RedisServer:
    """The server with nothing in it."""
    server.empty("job-queue")
    return server


def connect(redis: RedisServer) -> Any:
    """A bare connection, untyped as it comes, that repeats nothing and reads what arrives."""
    connection: Any = Connection
    retry = Retry(NoBackoff(), 0)
    return connection(
        host=redis.host, port=redis.port, protocol=2, retry=retry, socket_timeout=PATIENCE_S
    )


def flattened(reply: Any) -> Iterator[str]:
    """The words of a reply."""
    if isinstance(reply, list):
        for element in reply:
            yield from flattened(element)
    elif isinstance(reply, bytes):
        yield reply.decode("utf-8")
    else:
        yield "(nil)" if reply is None else str(reply)


def answer(connection: Any, *words: str) -> str:
    """What Redis answers to a command, an error as its message."""
    connection.send_command(*words)
    try:
        return " ".join(flattened(connection.read_response()))
    except ResponseError as error:
        return f"{type(error).__name__}: {error}"


def test_every_block_is_executed() -> None:
    """No example is of a kind that no test knows, and no fence is left open."""
    found = {(match[1], match[2] or "") for match in BLOCK.finditer(PROTOCOL)}

    assert found == KINDS, (
        f"the kinds without a test are {found - KINDS}, without a block {KINDS - found}"
    )
    fences = len(re.findall(r"^```", PROTOCOL, re.MULTILINE))
    assert fences == 2 * len(BLOCK.findall(PROTOCOL)), "every fence opens or closes such a block"


@pytest.mark.parametrize("example", examples("json"))
def test_json(example: Example) -> None:
    """An example of a message is valid under its schema."""
    errors = [
        error.message for error in validator(example.role).iter_errors(json.loads(example.body))
    ]

    assert not errors, f"the {example.role} in {example.label}: {errors}"


@pytest.mark.parametrize("example", examples("transcript"))
def test_transcript(example: Example, redis: RedisServer) -> None:
    """Redis answers every line of a transcript as it says, and sends nothing that it leaves out."""
    connections: dict[str, Any] = {}
    for line in example.body.splitlines():
        match = LINE.fullmatch(line)
        assert match, f"no line of a transcript: {line}"
        name, direction, words = match[1], match[2], shlex.split(match[3])
        connection = connections.setdefault(name, connect(redis))
        if direction == ">":
            connection.send_command(*words)
        else:
            received = list(flattened(connection.read_response()))
            assert received == words, f"{name} expected {words}, got {received}"

    unread = [name for name, connection in connections.items() if connection.can_read()]
    for connection in connections.values():
        connection.disconnect()
    assert not unread, f"{unread} received more than the transcript says"


@pytest.mark.parametrize("example", examples("transcript"))
def test_messages_of_a_transcript(example: Example) -> None:
    """The jobs and results in a transcript are valid under their schemas."""
    words = [word for line in example.body.splitlines() for word in shlex.split(line)]
    messages = {word for word in words if word.startswith("{")}

    kinds = {
        message: "job" if "method" in json.loads(message) else "result" for message in messages
    }

    assert set(kinds.values()) == {"job", "result"}, "a job and its result are in it"
    for message, kind in kinds.items():
        assert validator(kind).is_valid(json.loads(message)), f"no {kind}: {message}"


ALLOWED = {
    "client": [
        "HELLO 2",
        "PING",
        "CLIENT SETNAME web",
        "LPUSH job-queue job",
        "SUBSCRIBE job-queue:results:1",
        "UNSUBSCRIBE job-queue:results:1",
    ],
    "server": [
        "HELLO 2",
        "SELECT 0",
        "PING",
        "CLIENT SETNAME web-1",
        "CLIENT ID",
        "CLIENT UNBLOCK 1",
        "BLMOVE job-queue job-queue:in-process:web-1 RIGHT LEFT 0.01",
        "BRPOPLPUSH job-queue job-queue:in-process:web-1 0.01",
        "LMOVE job-queue job-queue:in-process:web-1 RIGHT LEFT",
        "LMOVE job-queue:in-process:web-1 job-queue LEFT RIGHT",
        "LRANGE job-queue:in-process:web-1 0 -1",
        "LREM job-queue:in-process:web-1 -1 job",
        "LPUSH job-queue:dead job",
        "PUBLISH job-queue:results:1 result",
        "MULTI",
        "PUBLISH job-queue:results:1 result",
        "LREM job-queue:in-process:web-1 -1 job",
        "EXEC",
        "MULTI",
        "DISCARD",
        """EVAL "redis.call('PUBLISH', ARGV[1], ARGV[2])
            return redis.call('LREM', KEYS[1], -1, ARGV[3])"
            1 job-queue:in-process:web-1 job-queue:results:1 result job""",
    ],
    "attempts": [
        "GET job-queue:attempts:0",
        "INCR job-queue:attempts:0",
        "EXPIRE job-queue:attempts:0 259200",
    ],
    "takeover": [
        "SET job-queue:lease:job-queue:in-process:web-1 token NX PX 8000",
        "GET job-queue:lease:job-queue:in-process:web-1",
        "HSET job-queue:processors job-queue:in-process:web-1 0",
        "EVAL \"return redis.call('PEXPIRE', KEYS[1], 1)\" 1 job-queue:lease:x",
        "EVAL \"return {redis.call('TIME'), redis.call('HGET', KEYS[1], 'x')}\" 1 job-queue:processors",
        "EVAL \"return redis.call('HDEL', KEYS[1], 'x')\" 1 job-queue:processors",
        "HSCAN job-queue:processors 0 COUNT 100",
        "PTTL job-queue:lease:job-queue:in-process:web-1",
        "EXISTS job-queue:lease:job-queue:in-process:web-1",
        "LLEN job-queue:in-process:web-2",
        "LMOVE job-queue:in-process:web-2 job-queue:in-process:web-1 RIGHT LEFT",
        "TIME",
        "WATCH job-queue:processors",
        "UNWATCH",
        "DEL job-queue:lease:job-queue:in-process:web-1",
    ],
    "expiry": ["TIME"],
    "expiry-client": ["TIME"],
    "kept-results": ["SET job-queue:result:0 result NX PX 60000"],
    "kept-results-client": ["GET job-queue:result:0"],
    "status": [
        "HELLO 2",
        "SELECT 0",
        "PING",
        "LLEN job-queue",
        "LLEN job-queue:dead",
        "TYPE job-queue:in-process:web-1",
        "SCAN 0 MATCH job-queue:in-process:*",
    ],
}
NOBODY = [
    "FLUSHALL",
    "KEYS *",
    "CONFIG GET *",
    "ACL WHOAMI",
    "MONITOR",
    "GET other",
    "LPUSH other job",
    "PUBLISH other result",
    "SUBSCRIBE other",
]
FORBIDDEN = {
    "client": [
        "DEL job-queue",
        "LRANGE job-queue 0 -1",
        "RPOP job-queue",
        "LPUSH job-queue:in-process:web-1 job",
        "PUBLISH job-queue:results:1 result",
        "PSUBSCRIBE *",
        "EVAL 'return 1' 0",
    ],
    "server": [
        "DEL job-queue",
        "RPOP job-queue",
        "SUBSCRIBE job-queue:results:1",
        "LMOVE job-queue other RIGHT LEFT",
        "LRANGE other 0 -1",
        "EVAL \"return redis.call('LPUSH', KEYS[1], 'job')\" 1 other",
        "EVAL \"return redis.call('PUBLISH', 'other', 'result')\" 0",
    ],
    "attempts": [
        "DEL job-queue",
        "INCR other",
        "EXPIRE other 259200",
    ],
    "takeover": [
        "SET other token",
        "DEL other",
        "HGETALL job-queue:processors",
        "LMOVE other job-queue:in-process:web-1 RIGHT LEFT",
        "EXPIRE job-queue 1",
    ],
    "expiry": ["GET job-queue:dead", "EXPIRE job-queue:dead 1"],
    "expiry-client": ["RPOP job-queue", "LRANGE job-queue 0 -1"],
    "kept-results": ["SET other result NX PX 60000", "GET job-queue:result:0"],
    "kept-results-client": [
        "GET job-queue:dead",
        "SET job-queue:result:0 result",
        "DEL job-queue:result:0",
        "LPUSH job-queue:result:0 job",
    ],
    "status": [
        "DEL job-queue",
        "LRANGE job-queue 0 -1",
        "LPUSH job-queue job",
        "LREM job-queue:dead 0 job",
        "LLEN other",
        "PUBLISH job-queue:results:1 result",
        "SUBSCRIBE job-queue:results:1",
    ],
}


@pytest.fixture(params=examples("acl"))
def party(request: pytest.FixtureRequest, redis: RedisServer) -> Iterator[tuple[str, Any]]:
    """A role, and a connection that was given no more than the role's ACL."""
    example: Example = request.param
    # What a feature adds is added to the rights of a server or a client.
    bodies = [
        each.values[0].body
        for each in examples("acl")
        if f"SETUSER jobqueue-{each.values[0].role} " in example.body
    ]
    bodies += [example.body] if example.body not in bodies else []
    with redis.connect() as admin:
        for body in bodies:
            admin.execute_command(*shlex.split(body))
    words = shlex.split(bodies[0])
    connection = connect(redis)
    password = next(word for word in words if word.startswith(">"))[1:]
    assert answer(connection, "AUTH", words[2], password) == "OK", "the user can log in"
    yield example.role, connection
    connection.disconnect()


def test_acl_suffices(party: tuple[str, Any]) -> None:
    """The ACL allows every command that the role has a use for."""
    role, connection = party
    for command in ALLOWED[role]:
        answered = answer(connection, *shlex.split(command))
        assert "Error" not in answered, f"the {role} may send {command}, got {answered}"


def test_acl_forbids(party: tuple[str, Any]) -> None:
    """The ACL forbids what the role doesn't need: other keys, other channels, other commands."""
    role, connection = party
    for command in [*NOBODY, *FORBIDDEN[role]]:
        answered = answer(connection, *shlex.split(command))
        assert REFUSAL.search(answered), f"the {role} may not send {command}, got {answered}"
