"""From `module:server` on the command line to the application's server, with the options applied.

The current directory is searched first, as by `python -m`. Every failure to import, the
application's own exceptions included, is reported in one sentence that names the place.
"""

from __future__ import annotations

import importlib
import operator
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from jobqueue import aio
from jobqueue.cli.terminal import Fault, Status, connect
from jobqueue.threads.server import Server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobqueue.core.sharing import Order


def load(target: str) -> Server | aio.Server:
    """Import the server that `module:attribute` names.

    Raises:
        Fault: There is no such module, attribute or server, or the import fails.
    """
    name, _, attribute = target.partition(":")
    if not name or not attribute:
        raise Fault(f"{target} is not MODULE:SERVER, as in app:server", Status.USAGE)
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            sentence = f"can't find the module {name} in {Path.cwd()} or on Python's path"
        else:
            sentence = f"importing {name} failed{_where(error)}: {type(error).__name__}: {error}"
        raise Fault(sentence, Status.USAGE) from error
    try:
        server = operator.attrgetter(attribute)(module)
    except AttributeError:
        raise Fault(f"module {name} has no attribute {attribute!r}", Status.USAGE) from None
    if not isinstance(server, Server | aio.Server):
        kind = type(server).__name__
        raise Fault(f"{target} is of type {kind}, not a jobqueue Server", Status.USAGE)
    return server


def override(
    server: Server | aio.Server,
    *,
    redis: str | None,
    queue: Sequence[str] | None,
    order: Order | None,
    processor: str | None,
    in_process: str | None,
    concurrency: int | None,
    attempts: int | None,
    keep_limit: float | None,
    takeover: bool | None,
) -> Server | aio.Server:
    """Replace settings that the application made by those of the command line.

    Raises:
        Fault: The Redis URL or another setting is not valid.
    """
    if redis is not None:
        connect(redis).close()  # all commands report an invalid URL in the same sentence
    try:
        return server.with_settings(
            source=redis,
            queue=queue or None,
            order=order,
            processor=processor,
            in_process=in_process,
            concurrency=concurrency,
            attempts=attempts,
            keep_limit=keep_limit,
            takeover=takeover,
        )
    except ValueError as error:
        raise Fault(str(error), Status.USAGE) from None


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(Path.cwd())]
    return f" at {own[-1].filename}, line {own[-1].lineno}" if own else ""
