"""Keeps passwords out of everything that a run shows or writes.

Pure. A password is known from the URL in which it was given; one in any other URL is recognised by its place.
What only the kit writes holds none, and stays as it is, even where it contains what is a password elsewhere.
"""

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

HIDDEN = "*****"
OWN = {"kind", "fate"}  # members that only the kit writes
LOGIN = re.compile(r"(\w://[^\s:/@]*):[^\s@]+@")


def passwords(urls: Iterable[str]) -> frozenset[str]:
    """The passwords in these URLs, in every spelling in which a program may show them."""
    found: set[str] = set()
    for url in urls:
        password = urlsplit(url).password if "://" in url else None
        if password:
            plain = unquote(password)
            found |= {password, plain, json.dumps(plain)[1:-1], repr(plain)[1:-1]}
    return frozenset(found)


def redacted(value: Any, secrets: Iterable[str]) -> Any:
    """The JSON value without the secrets, the longest first, so that none stands in a rest of another."""
    longest_first = sorted(secrets, key=lambda each: (-len(each), each))
    return _redacted(value, longest_first)


def _redacted(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
        return LOGIN.sub(rf"\1:{HIDDEN}@", value)
    if isinstance(value, dict):
        return {
            key: each if key in OWN else _redacted(each, secrets) for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [_redacted(each, secrets) for each in value]
    return value
