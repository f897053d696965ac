"""Scripts, as a Redis executes them: their real text, by a real Lua.

Pure: whoever evaluates a script executes the commands that it calls, and may refuse them.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from jobqueue.protocol.commands import ErrorReply
from lupa.lua51 import LuaRuntime

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.protocol.commands import Command

_LUA = LuaRuntime(encoding=None, register_eval=False, register_builtins=False)


class _FailedError(Exception):
    """A command that the script calls is refused, which ends the script."""

    def __init__(self, reply: ErrorReply) -> None:
        super().__init__(reply.text)
        self.reply = reply


def evaluate(command: Command, call: Callable[[Command], Any]) -> Any:
    """Evaluate a script, and return its reply.

    Args:
        command: EVAL, the script, the number of keys, the keys and the arguments.
        call: Executes a command of the script; an error is its result, as an `ErrorReply`.
    """
    script, names = command[1], int(command[2])

    def redis_call(*words: bytes | float) -> Any:
        reply = call(tuple(each if isinstance(each, bytes) else b"%.17g" % each for each in words))
        if isinstance(reply, ErrorReply):
            raise _FailedError(reply)
        return _to_lua(reply)

    lua = _LUA.globals()
    lua[b"KEYS"] = _LUA.table_from(command[3 : 3 + names])
    lua[b"ARGV"] = _LUA.table_from(command[3 + names :])
    lua[b"redis"] = _LUA.table_from({b"call": redis_call})
    try:
        return _from_lua(_compiled(script)())
    except _FailedError as failed:
        return ErrorReply(failed.reply.code, f"{failed.reply.text} script:")  # and where


@cache
def _compiled(script: bytes) -> Callable[[], Any]:
    compiled: Callable[[], Any] = _LUA.compile(script)
    return compiled


def _to_lua(reply: Any) -> Any:
    if reply is None:
        return False
    return _LUA.table_from(reply) if isinstance(reply, list) else reply


def _from_lua(value: Any) -> Any:
    """Read what a script returns: text, a number, which loses its fraction, or false, which is nothing."""
    if value is None or value is False:
        return None
    return int(value) if isinstance(value, float) else value
