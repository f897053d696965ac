"""The portable set: what every language reads alike, and so all that a job may hold.

Most jobs can't be outside of it, which their bytes show at once; only the others are looked through.
"""

from __future__ import annotations

import json
import re
from typing import Any

DEPTH_LIMIT = 32
INTEGER_LIMIT = 2**53 - 1

# Numbers that may be beyond INTEGER_LIMIT have at least this many digits in a row.
_LONG_NUMBER = re.compile("[0-9]{16}")

# U+FDD0 to U+FDEF, and the last two of each plane, in UTF-8.
_NONCHARACTER = re.compile(
    rb"\xef\xb7[\x90-\xaf]|\xef\xbf[\xbe\xbf]|[\xf0-\xf4][\x8f\x9f\xaf\xbf]\xbf[\xbe\xbf]"
)


def require_portable(message: bytes, parameters: object, body: str) -> None:
    """Refuse parameters that aren't portable.

    Args:
        message: The whole job, as JSON.
        parameters: What it was made of.
        body: The parameters, as JSON.

    Raises:
        ValueError: One sentence that says what is wrong.
    """
    # client.job.form
    objects = body.count("{")
    if body.count("[") + objects > DEPTH_LIMIT or _LONG_NUMBER.search(body):
        _check_portable(parameters, "parameters", 0)
    if objects and _has_ambiguous_names(parameters):
        _check_names(body)
    if not message.isascii() and _NONCHARACTER.search(message):
        raise ValueError("a job must not contain noncharacters, such as U+FFFE")


def _check_portable(value: object, path: str, depth: int) -> None:
    if isinstance(value, int) and abs(value) > INTEGER_LIMIT:
        raise ValueError(f"{path} is beyond ±(2**53-1), which other languages can't read exactly")
    if isinstance(value, dict | list | tuple):
        if depth == DEPTH_LIMIT:
            raise ValueError(f"the parameters are nested deeper than {DEPTH_LIMIT}")
        members = value.items() if isinstance(value, dict) else enumerate(value)
        for key, member in members:
            _check_portable(member, f"{path}[{key!r}]", depth + 1)


def _has_ambiguous_names(value: object) -> bool:
    """Tell whether two names may be equal in JSON that differ in Python, like 1 and "1"."""
    if isinstance(value, dict):
        if type(value) is not dict or any(type(name) is not str for name in value):
            return True
        value = value.values()
    elif not isinstance(value, list | tuple):
        return False
    return any(_has_ambiguous_names(member) for member in value)


def _check_names(body: str) -> None:
    def distinct(members: list[tuple[str, Any]]) -> None:
        if len(dict(members)) < len(members):
            raise ValueError("two names of one object in the parameters are equal in JSON")

    json.loads(body, object_pairs_hook=distinct)
