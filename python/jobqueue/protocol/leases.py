"""The commands of the feature `takeover`: leases, the registry of lists, scans and adoptions.

The registry is a hash, from the key of a list to a number v: 0 is alive, v > 0 lapsed since v, v < 0
found empty at -v, in milliseconds of Redis's clock. Anybody may have written any key and any value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from jobqueue.protocol.commands import ErrorReply, checked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobqueue.protocol.commands import Command, Commands, Reply
    from jobqueue.protocol.keys import Keys

# server.takeover.renews: PEXPIRE is accepted at the memory limit, where SET is refused.
RENEW = b"""\
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""

# server.takeover.releases
RELEASE = b"""\
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
"""

# server.takeover.own-registration: it may arrive when the next life of this name has registered the list.
UNREGISTER = b"""\
if redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('LLEN', KEYS[3]) == 0 then
  return redis.call('HDEL', KEYS[2], KEYS[3])
end
return 0
"""

# server.takeover.waits: the life of this token is over, since its lock file is ours.
INHERIT = b"""\
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return false
"""

# What is due on one list, in one step: server.takeover.adopts, server.takeover.only-lapsed,
# server.takeover.marked, server.takeover.late, server.takeover.prunes.
ADOPT = b"""\
if redis.call('GET', KEYS[2]) ~= ARGV[1] or redis.call('EXISTS', KEYS[3]) == 1 then
  return false
end
local raw = redis.call('HGET', KEYS[1], KEYS[5])
if not raw then
  return false
end
local v = string.match(raw, '^%-?%d+$') and tonumber(raw) or 0
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if v == 0 or math.abs(v) > now then
  redis.call('HSET', KEYS[1], KEYS[5], now)
  return false
end
if v > 0 and now - v < tonumber(ARGV[2]) then
  return false
end
local message = redis.call('LMOVE', KEYS[5], KEYS[4], 'RIGHT', 'LEFT')
if redis.call('LLEN', KEYS[5]) == 0 then
  if v > 0 then
    redis.call('HSET', KEYS[1], KEYS[5], -now)
  elseif not message and now + v >= tonumber(ARGV[3]) then
    redis.call('HDEL', KEYS[1], KEYS[5])
  end
end
return message
"""

PAGE = 500  # registrations per read of a scan
SCANNING_MS = 1_000  # how long the other servers leave a page of a scan to this one

_DIGITS = re.compile(rb"-?\d{1,15}")
# The last two are how Redis 7.0, and newer versions and Valkey, word it for a command in a script.
_FORBIDDEN = ("NOPERM", "user executing the script can't", "ACL failure in script")
# Redis 6.2 words an error of a command in a script as "ERR Error running script …: -OOM …".
_INNER_CODE = re.compile(r" -([A-Z]+) ")


class Acquired(NamedTuple):
    """What Redis says of a lease: who holds it, and what became of the attempt to take it."""

    holder: bytes | None
    taken: bool  # whether it was free and is the caller's now, for the whole time
    left_ms: int  # how long it lasts without a renewal
    registered: bool
    created: bool  # whether the list wasn't registered before
    refusal: str  # the words of Redis where it refused a command


class Registration(NamedTuple):
    """A list of the registry, and in how many milliseconds it is due; less than 1 is now."""

    key: bytes
    due_ms: int


class Adopted(NamedTuple):
    """What became of one look after a lapsed list: a message that was moved, or a refusal."""

    message: bytes | None
    refusal: ErrorReply | None


@dataclass(frozen=True, slots=True)
class State:
    """What is known of the server of an in-process list.

    Attributes:
        name: `alive` with a lease; without one `lapsed`, `emptied` or, as the list of a server without
            takeover, `unregistered`; `unknown` where Redis doesn't tell.
        seconds: For how long it has been marked as lapsed or found empty, by the clock of Redis; None
            if it isn't marked.
    """

    name: Literal["alive", "lapsed", "emptied", "unregistered", "unknown"]
    seconds: int | None = None

    def __str__(self) -> str:
        return self.name if self.seconds is None else f"{self.name} {self.seconds} s ago"


def acquire(keys: Keys, token: bytes, lease_ms: int) -> Commands[Acquired]:
    """Take the lease of the list where it is free, and register the list."""
    # server.takeover.lease-first, server.takeover.registers
    taken, holder, left, registered = yield [
        (b"SET", keys.lease, token, b"NX", b"PX", b"%d" % lease_ms),
        (b"GET", keys.lease),
        (b"PTTL", keys.lease),
        (b"HSET", keys.processors, keys.in_process, b"0"),
    ]
    refusals = (each.text for each in (taken, holder, left, registered) if _refused(each))
    return Acquired(
        holder=None if _refused(holder) else holder,
        taken=taken == b"OK",
        left_ms=left if isinstance(left, int) else 0,
        registered=isinstance(registered, int),
        created=registered == 1,
        refusal=next(refusals, ""),
    )


def renew(keys: Keys, token: bytes, lease_ms: int) -> Commands[bool]:
    """Extend the lease, and tell whether it was still the caller's."""
    (renewed,) = yield [_script(RENEW, [keys.lease], token, b"%d" % lease_ms)]
    return bool(checked(renewed) == 1)


def inherit(keys: Keys, former: bytes, token: bytes, lease_ms: int) -> Commands[None]:
    """Take the lease from a life that is over, where it has it still."""
    (inherited,) = yield [_script(INHERIT, [keys.lease], former, token, b"%d" % lease_ms)]
    checked(inherited)


def register(keys: Keys) -> Commands[None]:
    """Register the list."""
    (registered,) = yield [(b"HSET", keys.processors, keys.in_process, b"0")]
    checked(registered)


def registered(keys: Keys) -> Commands[bool]:
    """Tell whether the list is registered; False where Redis doesn't let the caller know."""
    (value,) = yield [(b"HGET", keys.processors, keys.in_process)]
    if code(value) in ("NOPERM", "WRONGTYPE"):
        return False
    return checked(value) is not None


def release(keys: Keys, token: bytes, *, unregister: bool) -> Commands[None]:
    """Give up the lease at the end; and the registration, if the list is empty and this is wanted."""
    # server.takeover.unregisters
    names = [keys.lease, keys.processors, keys.in_process]
    forget = [_script(UNREGISTER, names, token)] if unregister else []
    yield [*forget, _script(RELEASE, [keys.lease], token)]


def scan_turn(keys: Keys, token: bytes, lease_ms: int, *, always: bool) -> Commands[int | None]:
    """Ask for the turn to scan.

    Returns:
        None if the caller is to scan now, otherwise the milliseconds until somebody is to.
    """
    # server.takeover.scans: one of many servers; a key that lasts too long isn't of a server.
    condition: Command = () if always else (b"NX",)
    turn, left = yield [
        (b"SET", keys.scanned, token, *condition, b"PX", b"%d" % SCANNING_MS),
        (b"PTTL", keys.scanned),
    ]
    if code(turn) == "OOM":
        return lease_ms // 4  # adopting waits
    checked(turn)
    mine = turn is not None or not isinstance(left, int) or not 0 <= left <= lease_ms
    return None if mine else left


def scan_over(keys: Keys, due_ms: int) -> Commands[None]:
    """Say when the next scan is due."""
    yield [(b"PEXPIRE", keys.scanned, b"%d" % max(due_ms, 1))]


def scan(
    keys: Keys, cursor: bytes, lapse_ms: int, grace_ms: int
) -> Commands[tuple[bytes, list[Registration]]]:
    """Read a page of the registry, and tell when each of its lists is due.

    Returns:
        The cursor of the next page, b"0" at the end; and the lists that adopters look after.
    """
    page, time = yield [
        (b"HSCAN", keys.processors, cursor, b"COUNT", b"%d" % PAGE),
        (b"TIME",),
    ]
    next_cursor, flat = checked(page)
    seconds, microseconds = checked(time)
    now = int(seconds) * 1000 + int(microseconds) // 1000
    # server.takeover.ignores
    lists = [
        (key, _number(value))
        for key, value in zip(flat[::2], flat[1::2], strict=True)
        if key.startswith(keys.queue + b":") and key not in (keys.dead, keys.in_process)
    ]
    asks = [(b"LLEN", key) if v < 0 else (b"PTTL", keys.lease_of(key)) for key, v in lists]
    answers = yield [*asks, (b"PEXPIRE", keys.scanned, b"%d" % SCANNING_MS)]
    found = zip(lists, answers[:-1], strict=True)
    due = ((key, _due_ms(v, answer, now, lapse_ms, grace_ms)) for (key, v), answer in found)
    return next_cursor, [Registration(key, ms) for key, ms in due if ms is not None]


def _due_ms(v: int, answer: Reply, now: int, lapse_ms: int, grace_ms: int) -> int | None:
    """Tell in how many milliseconds a list is due, given its lease's time or the list's length."""
    if _refused(answer):
        return None  # a list of another type
    if v < 0:
        late = answer > 0 or -v > now
        return 0 if late else grace_ms - (now + v)
    if answer != -2:
        return max(int(answer), 0) + 1 if answer >= 0 else None
    return 0 if v == 0 or v > now else lapse_ms - (now - v)


def state_of(value: bytes | None, now_ms: int, *, leased: bool) -> State:
    """Tell the state of a list's server, given its value in the registry and Redis's time."""
    if leased:
        return State("alive")
    if value is None:
        return State("unregistered")
    v = _number(value)
    if v == 0 or abs(v) > now_ms:
        return State("lapsed")
    return State("lapsed" if v > 0 else "emptied", (now_ms - abs(v)) // 1000)


def adopt(keys: Keys, token: bytes, key: bytes, lapse_ms: int, grace_ms: int) -> Commands[Adopted]:
    """Look after a list: mark it, move its oldest entry, or forget it, whatever is due."""
    names = [keys.processors, keys.lease, keys.lease_of(key), keys.in_process, key]
    (message,) = yield [_script(ADOPT, names, token, b"%d" % lapse_ms, b"%d" % grace_ms)]
    if not _refused(message):
        return Adopted(message, None)
    if code(message) in ("READONLY", "MASTERDOWN", "LOADING"):
        checked(message)
    return Adopted(None, message)


def forbidden(words: str) -> bool:
    """Tell whether Redis says that a permission is missing, also inside a script."""
    return any(each in words for each in _FORBIDDEN)


def code(reply: Reply) -> str:
    """Return the code of an error, also of one inside a script; nothing if it is none."""
    if not isinstance(reply, ErrorReply):
        return ""
    inner = _INNER_CODE.search(reply.text)
    return inner[1] if inner else reply.code


def _refused(reply: Reply) -> bool:
    return isinstance(reply, ErrorReply)


def _number(value: bytes) -> int:
    """Read a value of the registry; what is no number counts as 0, as in the script."""
    return int(value) if _DIGITS.fullmatch(value) else 0


def _script(script: bytes, names: Iterable[bytes], *arguments: bytes) -> Command:
    each = tuple(names)
    return (b"EVAL", script, b"%d" % len(each), *each, *arguments)
