"""Redis URLs: what each kind means, and which ones are safe to pass to redis-py.

redis-py accepts a password whose special characters aren't percent-encoded. It takes what follows
the first of them for a database or for options, and what precedes it for a host: it then connects to
another Redis, and its errors contain a part of the password.

A URL of Sentinel or of a cluster names several hosts; redis-py reads the rest of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

_SEVERAL_HOSTS = re.compile(
    r"(?P<scheme>rediss?)\+(?P<kind>sentinel|cluster)://"
    r"(?P<user>[^@/?]*@)?(?P<hosts>[^@/?]*)(?P<path>/[^@?]*)?(?:\?(?P<query>[^@]*))?"
)
_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:]+))(?::(?P<port>[0-9]+))?")


@dataclass(frozen=True, slots=True)
class Location:
    """What a URL means.

    Attributes:
        kind: Empty for one Redis.
        url: What redis-py reads: the credentials, the database and the options for Redis.
        addresses: The sentinels, or some nodes of the cluster.
        service: The name that the sentinels know the master by.
        sentinel_url: What redis-py reads for the sentinels: their credentials and options.
    """

    kind: Literal["", "sentinel", "cluster"]
    url: str
    addresses: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_url: str = ""


def parse(url: str) -> Location:
    """Return what a URL means.

    Raises:
        ValueError: redis-py would misread it, or it means nothing. The message may contain a part
            of it.
    """
    # urlsplit drops some control characters, and bytes that aren't UTF-8 fail only at the connect.
    if not url.isprintable():
        raise ValueError("a character that is not printable")
    unquote(url, errors="strict")  # %E9 of Latin-1 would be read as U+FFFD
    if "#" in url:
        raise ValueError("a fragment")
    if "+" in url.partition(":")[0]:
        return _with_several_hosts(url)
    parts = urlsplit(url)
    if parts.scheme == "unix":
        # `unix://relative/path` would mean /path, and so would `unix://:pass/path`.
        if parts.netloc and not parts.netloc.endswith("@"):
            raise ValueError("a host before the path of a socket")
        return Location("", url)
    if "@" in parts.path or "@" in parts.query:
        raise ValueError("a password that ends early")
    # client.connection.database, server.connection.database: redis-py reads the number.
    if not re.fullmatch(r"/?|/[0-9]+", parts.path):
        raise ValueError("a database that is not one number")  # /1/2 would mean 12, /a would mean 0
    if parts.port == 0:
        raise ValueError("port 0")  # which would mean 6379
    return Location("", url)


def _with_several_hosts(url: str) -> Location:
    parts = _SEVERAL_HOSTS.fullmatch(url)
    if not parts:
        raise ValueError("neither a URL of Sentinel nor of a cluster")
    scheme, path, query = parts["scheme"], parts["path"] or "", parts["query"] or ""
    of_redis = f"{scheme}://{parts['user'] or ''}"
    if parts["kind"] == "cluster":
        if path not in {"", "/", "/0"}:
            raise ValueError("a cluster has only the database 0")
        return Location("cluster", f"{of_redis}?{query}", _addresses(parts["hosts"], 6379))
    named = re.fullmatch(r"/(?P<service>[^/]+)(?P<database>/[0-9]+)?/?", path)
    if not named:
        raise ValueError("the path must be /MASTER or /MASTER/DATABASE")
    options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    sentinels = {name: value for name, value in options.items() if name.startswith("sentinel_")}
    rest = {name: value for name, value in options.items() if name not in sentinels}
    own = {name.removeprefix("sentinel_"): value for name, value in sentinels.items()}
    # TLS is the same for both, unless an option says otherwise.
    encrypted = own.pop("ssl", "1" if scheme == "rediss" else "0") == "1"
    if encrypted:
        own = {name: value for name, value in rest.items() if name.startswith("ssl_")} | own
    return Location(
        "sentinel",
        f"{of_redis}{named['database'] or ''}?{urlencode(rest)}",
        _addresses(parts["hosts"], 26379),
        unquote(named["service"]),
        f"{'rediss' if encrypted else 'redis'}://?{urlencode(own)}",
    )


def _addresses(hosts: str, default_port: int) -> tuple[tuple[str, int], ...]:
    addresses = []
    for each in hosts.split(","):
        host = _HOST.fullmatch(each)
        if not host or not 0 < (port := int(host["port"] or default_port)) < 65_536:
            raise ValueError("a host must be NAME, NAME:PORT or [IPV6]:PORT")
        addresses.append((host["ipv6"] or unquote(host["name"]), port))
    return tuple(addresses)
