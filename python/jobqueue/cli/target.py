"""From `module:server` on the command line to the application's server, with the options applied.

The module is looked for in the current directory first, as `python -m` does. Whatever is wrong with
it, the application's own exceptions included, ends in one sentence that says where.
"""

# ruff: noqa: SLF001 - to applications a server stays as they made it; its own package may change it
from __future__ import annotations

import importlib
import logging
import operator
import sys
import traceback
from pathlib import Path

from jobqueue import aio
from jobqueue.cli.terminal import Fault, Status, connect
from jobqueue.protocol import keys
from jobqueue.protocol.keys import Keys
from jobqueue.threads.server import Server
from jobqueue.wire import pools

_log = logging.getLogger(__name__)


def load(target: str) -> Server | aio.Server:
    """Import the server that `module:attribute` names.

    Raises:
        Fault: There is no such module, attribute or server, or the import fails.
    """
    name, _, attribute = target.partition(":")
    if not name or not attribute:
        raise Fault(
            f"{target} names no server; write MODULE:SERVER, as in app:server", Status.USAGE
        )
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            sentence = f"there is no module {name} in {Path.cwd()} or where Python looks"
        else:
            _log.debug("importing %s failed", name, exc_info=True)
            sentence = f"importing {name} failed{_where(error)}: {type(error).__name__}: {error}"
        raise Fault(sentence, Status.USAGE) from None
    try:
        server = operator.attrgetter(attribute)(module)
    except AttributeError:
        raise Fault(f"module {name} has no {attribute}", Status.USAGE) from None
    if not isinstance(server, Server | aio.Server):
        kind = type(server).__name__
        raise Fault(f"{target} is of type {kind}, not a jobqueue Server", Status.USAGE)
    return server


def override(
    server: Server | aio.Server,
    *,
    redis: str | None,
    queue: str | None,
    processor: str | None,
    in_process: str | None,
    concurrency: int | None,
) -> str:
    """Let what the command line says win over what the application passed to the constructor.

    Returns:
        The key of the in-process list that the server has then.

    Raises:
        Fault: The Redis URL is invalid.
    """
    if redis is not None:
        connect(redis).close()  # a wrong URL is told in the same sentence everywhere
        if isinstance(server, Server):
            server._pool = pools.pool_of(redis, server._block_seconds)
        else:
            server._pool = pools.aio_pool_of(redis, server._block_seconds)
    old_queue, old_key = keys.text(server._keys.queue), keys.text(server._keys.in_process)
    if in_process is None and processor is None:
        if old_key.startswith(of_all := keys.in_process(old_queue, "")):
            processor = old_key.removeprefix(of_all)
        else:
            in_process = old_key
    server._keys = Keys.of(queue or old_queue, processor or "", in_process)
    server._concurrency = concurrency or server._concurrency
    return keys.text(server._keys.in_process)


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(Path.cwd())]
    return f" at {own[-1].filename}, line {own[-1].lineno}" if own else ""
