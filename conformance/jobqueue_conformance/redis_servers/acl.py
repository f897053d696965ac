"""What a test changes in a Redis that is the suite's own: its users and their rights, and its limits."""

import re

from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec import data
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.verdicts import Unsupported

EVERYTHING = ("~*", "&*", "+@all")


def set_user(server: RedisServer, name: str, password: str, *rules: str) -> None:
    """Make a user, or change one: the rules are those of `ACL SETUSER`."""
    execute(server, "ACL", "SETUSER", name, "on", f">{password}", *rules)


def execute(server: RedisServer, *words: str) -> None:
    """Execute a command that changes the server, only where it is the suite's own."""
    if not server.private:
        raise Unsupported(f"{server.description} is the user's own, and the test needs {words[0]}")
    with server.connect() as admin:
        admin.execute_command(*words)


def least_rights(party: str, keys: Keys) -> list[str]:
    """The rules by which the protocol grants a client or a server its rights, for this test's queue."""
    text = (data.folder("spec") / "protocol.md").read_text(encoding="utf-8")
    found = re.search(rf"^```acl {party}\nACL SETUSER \S+ on >\S+ (.*?)\n```", text, re.MULTILINE)
    assert found is not None, f"the protocol grants a {party} no rights"
    return re.sub(r"(?<=[~&])job-queue", lambda _: keys.queue, found[1]).split()
