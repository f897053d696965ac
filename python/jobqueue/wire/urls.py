"""Which Redis URLs are safe to pass to redis-py: those that it reads as they are meant.

redis-py accepts a password whose special characters aren't percent-encoded. It takes what follows
the first of them for a database or for options, and what precedes it for a host: it then connects to
another Redis, and its errors contain a part of the password.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit


def require_unambiguous(url: str) -> None:
    """Refuse a URL that redis-py would misread.

    Raises:
        ValueError: The URL is ambiguous. The message may contain a part of it.
    """
    # urlsplit drops some control characters, and bytes that aren't UTF-8 fail only at the connect.
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
