"""Which URLs of Redis are safe to hand to redis-py: those that it reads as they were meant.

It never complains of a password whose special characters aren't percent-encoded. What follows the
first of them it takes for a database, for options or for nothing, and what precedes it for a host:
so it asks another Redis, and shows a part of the password in its errors.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit


def require_unambiguous(url: str) -> None:
    """Refuse what redis-py would read as something else.

    Raises:
        ValueError: It would; the error may quote a part of the URL.
    """
    # urlsplit drops some control characters, and what isn't UTF-8 fails only at the connect.
    if not url.isprintable():
        raise ValueError("a character that is not printable")
    unquote(url, errors="strict")  # %E9 of Latin-1 would be read as U+FFFD
    if "#" in url:
        raise ValueError("a fragment")
    parts = urlsplit(url)
    if parts.scheme == "unix":
        # `unix://relative/path` would mean /path, and so would `unix://:pass/path`.
        if parts.netloc and not parts.netloc.endswith("@"):
            raise ValueError("a host before the path of a socket")
        return
    if "@" in parts.path or "@" in parts.query:
        raise ValueError("a password that ends early")
    if not re.fullmatch(r"/?|/[0-9]+", parts.path):
        raise ValueError("a database that is not one number")  # /1/2 would mean 12, /a would mean 0
    if parts.port == 0:
        raise ValueError("port 0")  # which would mean 6379
