"""Users of the real Redis with the rights that a test gives them."""

import re

from redis import Redis

from jobqueue_conformance import data
from jobqueue_conformance.keys import Keys

EVERYTHING = ("~*", "&*", "+@all")


def set_user(redis: Redis, name: str, password: str, *rules: str) -> None:
    """Make a user, or change one: the rules are those of `ACL SETUSER`."""
    words = ("ACL", "SETUSER", name, "on", f">{password}", *rules)
    redis.execute_command(*words)  # type: ignore[no-untyped-call] # it takes any words


def least_rights(party: str, keys: Keys) -> list[str]:
    """The rules by which the protocol grants a client or a server its rights, for this test's queue."""
    text = (data.folder("spec") / "protocol.md").read_text(encoding="utf-8")
    found = re.search(rf"^```acl {party}\nACL SETUSER \S+ on >\S+ (.*?)\n```", text, re.MULTILINE)
    assert found is not None, f"the protocol grants a {party} no rights"
    return re.sub(r"(?<=[~&])job-queue", lambda _: keys.queue, found[1]).split()
