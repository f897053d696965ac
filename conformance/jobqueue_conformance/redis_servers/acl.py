"""What a test changes in a Redis that is the suite's own: its users and their rights, and its limits."""

import re
from collections.abc import Iterable

from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec import data
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.verdicts import Unsupported

EVERYTHING = ("~*", "&*", "+@all")
# No word of a report contains it: it is hidden wherever it stands.
PASSWORD = "kept-to-itself-4d7c"  # noqa: S105 - of the suite's own Redis


def set_user(server: RedisServer, name: str, password: str, *rules: str) -> None:
    """Make a user, or change one: the rules are those of `ACL SETUSER` in Redis 7."""
    with server.connect() as redis:
        version: str = redis.info("server")["redis_version"]
    if version.startswith("6."):  # it can't tell reading a key from writing it
        rules = tuple(re.sub("^%[RW]+(?=~)", "", rule) for rule in rules)
    execute(server, "ACL", "SETUSER", name, "on", f">{password}", *rules)


def execute(server: RedisServer, *words: str) -> None:
    """Execute a command that changes the server, only where it is the suite's own."""
    if not server.private:
        raise Unsupported(f"{server.description} is the user's own, and the test needs {words[0]}")
    with server.connect() as admin:
        admin.execute_command(*words)


def least_rights(party: str, keys: Keys, features: Iterable[str] = ()) -> list[str]:
    """The rules by which the protocol grants a party its rights, for this test's queue.

    Args:
        party: a client or a server.
        keys: the names of this test.
        features: those of the party; what the protocol adds for one of them is added.
    """
    text = (data.folder("spec") / "protocol.md").read_text(encoding="utf-8")
    block = rf"^```acl (\S+)\nACL SETUSER jobqueue-{party} (?:on >\S+ )?(.*?)\n```"
    granted = dict(re.findall(block, text, re.MULTILINE))
    assert party in granted, f"the protocol grants a {party} no rights"
    rules = " ".join(granted[each] for each in (party, *sorted(features)) if each in granted)
    return re.sub(r"(?<=[~&])job-queue", lambda _: keys.queue, rules).split()
