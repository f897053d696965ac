"""The data of a Redis in memory, and what each command that the protocol uses does to it.

Pure: the time comes in as an argument. A test lets Hypothesis execute the same commands here and in
a real Redis. fakeredis knows many more commands, but takes the time from the machine, blocks in
threads, and can't be filled up or restored; a few commands whose every state can be copied are less.

Connections, blocking, MULTI and PUBLISH are `redis_process`'s.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from jobqueue.protocol.commands import ErrorReply

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.protocol.commands import Command

OK = b"OK"
WRONG_TYPE = ErrorReply(
    "WRONGTYPE", "WRONGTYPE Operation against a key holding the wrong kind of value"
)
NOT_AN_INTEGER = ErrorReply("ERR", "ERR value is not an integer or out of range")

READS = {b"LRANGE", b"LLEN", b"GET", b"HGET", b"HSCAN", b"PTTL", b"EXISTS", b"TIME"}
# These need memory, so a Redis that is full refuses them.
GROWS = {b"LPUSH", b"LMOVE", b"BLMOVE", b"SET", b"HSET", b"INCR"}


class _WrongTypeError(Exception):
    """The key holds another type."""


class Store:
    """The keys of one Redis.

    Args:
        removed: Is told each entry that leaves a list without being moved to another one.
        moved: Is told each entry that is moved, and from where to where.
    """

    def __init__(
        self,
        removed: Callable[[bytes, bytes], None] = lambda _key, _entry: None,
        moved: Callable[[bytes, bytes, bytes], None] = lambda _source, _target, _entry: None,
    ) -> None:
        self._removed = removed
        self._moved = moved
        self._values: dict[bytes, Any] = {}  # bytes, deque (its left end first) or dict
        self._ends_ms: dict[bytes, int] = {}
        self._now_ms = 0
        self._do: dict[bytes, Callable[..., Any]] = {
            b"LPUSH": self._lpush,
            b"LMOVE": self._lmove,
            b"BLMOVE": lambda *arguments: self._lmove(*arguments[:4]),  # whoever blocks asks again
            b"LREM": self._lrem,
            b"LRANGE": self._lrange,
            b"LLEN": lambda key: len(self._get(key, deque) or ()),
            b"SET": self._set,
            b"GET": lambda key: self._get(key, bytes),
            b"DEL": self._del,
            b"EXISTS": lambda key: int(self._live(key) is not None),
            b"PTTL": self._pttl,
            b"PEXPIRE": lambda key, ms: self._expire(key, int(ms)),
            b"EXPIRE": lambda key, seconds: self._expire(key, int(seconds) * 1000),
            b"INCR": self._incr,
            b"HSET": self._hset,
            b"HGET": lambda key, field: (self._get(key, dict) or {}).get(field),
            b"HDEL": self._hdel,
            b"HSCAN": self._hscan,
            b"TIME": lambda: [b"%d" % (self._now_ms // 1000), b"%d" % (self._now_ms % 1000 * 1000)],
        }

    def execute(self, command: Command, now_ms: int) -> Any:
        """Execute one command, and return its reply."""
        self._now_ms = now_ms
        try:
            return self._do[command[0]](*command[1:])
        except _WrongTypeError:
            return WRONG_TYPE

    def ask(self, *command: bytes) -> Any:
        """Execute a command of whoever watches, at the time of the last one."""
        return self._do[command[0]](*command[1:])

    def copy(self, *, watched: bool = True) -> Store:
        """Return the same data, which stays as it is now; nobody may be told of what happens to it."""
        copied = Store(*((self._removed, self._moved) if watched else ()))
        copied._ends_ms = dict(self._ends_ms)
        copied._values = {
            key: value if isinstance(value, bytes) else value.copy()
            for key, value in self._values.items()
        }
        return copied

    def entries(self, key: bytes) -> list[bytes]:
        """Return what is on a list, its left end first."""
        return list(self._values.get(key, ()))

    def lists(self) -> dict[bytes, list[bytes]]:
        """Return every list that isn't empty."""
        return {key: list(each) for key, each in self._values.items() if isinstance(each, deque)}

    def fields(self, key: bytes) -> set[bytes]:
        """Return the names of the fields of a hash."""
        return set(self._values.get(key, ()))

    def remaining_ms(self, key: bytes, now_ms: int) -> int:
        """Return for how long a key is still there, as PTTL does: -1 is for ever, -2 not at all."""
        return int(self.execute((b"PTTL", key), now_ms))

    def keys(self) -> set[bytes]:
        """Return the keys that exist, whether or not their time has passed."""
        return set(self._values)

    def _live(self, key: bytes) -> Any:
        if self._ends_ms.get(key, self._now_ms + 1) <= self._now_ms:
            self._forget(key)
        return self._values.get(key)

    def _get(self, key: bytes, kind: type) -> Any:
        value = self._live(key)
        if value is not None and not isinstance(value, kind):
            raise _WrongTypeError
        return value

    def _made(self, key: bytes, kind: type) -> Any:
        value = self._get(key, kind)
        if value is None:
            value = self._values[key] = kind()
        return value

    def _forget(self, key: bytes) -> Any:
        self._ends_ms.pop(key, None)
        return self._values.pop(key, None)

    def _trim(self, key: bytes) -> None:
        if not self._values[key]:
            self._forget(key)

    def _lpush(self, key: bytes, *entries: bytes) -> int:
        of_list = self._made(key, deque)
        of_list.extendleft(entries)
        return len(of_list)

    def _lmove(self, source: bytes, target: bytes, out: bytes, into: bytes) -> bytes | None:
        entries = self._get(source, deque)
        if entries is None:
            return None
        self._get(target, deque)
        entry: bytes = entries.pop() if out == b"RIGHT" else entries.popleft()
        arrives = self._made(target, deque)
        (arrives.append if into == b"RIGHT" else arrives.appendleft)(entry)
        self._trim(source)
        self._moved(source, target, entry)
        return entry

    def _lrem(self, key: bytes, count: bytes, entry: bytes) -> int:
        entries = self._get(key, deque)
        if entries is None:
            return 0
        limit = abs(int(count)) or len(entries)
        places = [at for at, each in enumerate(entries) if each == entry]
        places = places[-limit:] if int(count) < 0 else places[:limit]
        for at in reversed(places):
            del entries[at]
        self._trim(key)
        for _ in places:
            self._removed(key, entry)
        return len(places)

    def _lrange(self, key: bytes, first: bytes, last: bytes) -> list[bytes]:
        entries = list(self._get(key, deque) or ())
        begin, end = int(first), int(last)
        begin = max(0, begin + len(entries)) if begin < 0 else begin
        end = end + len(entries) if end < 0 else end
        return entries[begin : end + 1] if end >= 0 else []

    def _set(self, key: bytes, value: bytes, *options: bytes) -> bytes | None:
        if b"NX" in options and self._live(key) is not None:
            return None
        self._forget(key)
        self._values[key] = value
        if b"PX" in options:
            self._ends_ms[key] = self._now_ms + int(options[options.index(b"PX") + 1])
        return OK

    def _del(self, *keys: bytes) -> int:
        gone = 0
        for key in keys:
            gone += self._live(key) is not None
            value = self._forget(key)
            for entry in value if isinstance(value, deque) else ():
                self._removed(key, entry)
        return gone

    def _pttl(self, key: bytes) -> int:
        if self._live(key) is None:
            return -2
        return self._ends_ms[key] - self._now_ms if key in self._ends_ms else -1

    def _expire(self, key: bytes, ms: int) -> int:
        if self._live(key) is None:
            return 0
        self._ends_ms[key] = self._now_ms + ms
        self._live(key)  # Redis deletes a key at once whose time isn't in the future
        return 1

    def _incr(self, key: bytes) -> int | ErrorReply:
        value = self._get(key, bytes)
        if value is not None and not value.removeprefix(b"-").isdigit():
            return NOT_AN_INTEGER
        self._values[key] = b"%d" % (int(value or 0) + 1)
        return int(self._values[key])

    def _hset(self, key: bytes, *pairs: bytes) -> int:
        fields = self._made(key, dict)
        before = len(fields)
        fields.update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(fields) - before

    def _hdel(self, key: bytes, *names: bytes) -> int:
        fields = self._get(key, dict)
        if fields is None:
            return 0
        gone = sum(fields.pop(name, None) is not None for name in names)
        self._trim(key)
        return gone

    def _hscan(self, key: bytes, _cursor: bytes, *_options: bytes) -> list[Any]:
        pairs = (self._get(key, dict) or {}).items()
        return [b"0", [each for pair in pairs for each in pair]]
