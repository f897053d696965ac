"""`jobqueue serve`: an application's server in this process, or in several of its own."""

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import typer

from jobqueue import aio
from jobqueue.cli.processes import Processes, stop_with_parent
from jobqueue.cli.target import load, override
from jobqueue.cli.terminal import Fault, Status
from jobqueue.errors import ConnectionLost, ProcessorInUse


class LogLevel(StrEnum):
    """How much a server tells on stderr."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def serve(
    target: Annotated[
        str,
        typer.Argument(metavar="MODULE:SERVER", help="Where the server is."),
    ],
    *,
    processes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            envvar="JOBQUEUE_PROCESSES",
            help="Run N servers, named PROCESSOR-1 to PROCESSOR-N, and restart those that die.",
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            envvar="JOBQUEUE_CONCURRENCY",
            help="How many handlers a server runs at once.",
        ),
    ] = None,
    processor: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            envvar="JOBQUEUE_PROCESSOR",
            help="The server's name: unique, and the same after a restart.",
        ),
    ] = None,
    in_process: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="JOBQUEUE_IN_PROCESS",
            help="The whole key of the in-process list, in place of what --processor gives.",
        ),
    ] = None,
    redis: Annotated[
        str | None, typer.Option(metavar="URL", envvar="REDIS_URL", help="Where Redis is.")
    ] = None,
    queue: Annotated[
        str | None, typer.Option(metavar="KEY", envvar="JOBQUEUE_QUEUE", help="The queue's key.")
    ] = None,
    log_level: Annotated[
        LogLevel, typer.Option(envvar="JOBQUEUE_LOG_LEVEL", help="How much to tell on stderr.")
    ] = LogLevel.INFO,
    child: Annotated[bool, typer.Option("--child", hidden=True)] = False,
) -> None:
    """Serve jobs until SIGTERM or Ctrl-C.

      jobqueue serve app:server
      jobqueue serve app:server --processor web-1 --concurrency 8
      jobqueue serve app:server --processes 4

    MODULE is looked for in the current directory first; SERVER is a jobqueue.Server or a
    jobqueue.aio.Server in it. What has neither a flag nor a variable is as the module made it.

    To stop, it finishes what it has claimed. A second Ctrl-C stops at once; what was claimed then
    runs when a server of that name starts again.
    """
    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    server = override(
        load(target),
        redis=redis,
        queue=queue,
        processor=processor,
        in_process=in_process,
        concurrency=concurrency,
    )
    if processes is not None:
        settings = {
            "REDIS_URL": redis,
            "JOBQUEUE_QUEUE": queue,
            "JOBQUEUE_CONCURRENCY": concurrency,
            "JOBQUEUE_LOG_LEVEL": log_level,
        }
        lists = [f"{server.in_process}-{number}" for number in range(1, processes + 1)]
        raise typer.Exit(_serve_in_processes(target, lists, settings))
    if child:
        stop_with_parent()
    try:
        if isinstance(server, aio.Server):
            asyncio.run(server.run())
        else:
            server.run()
    except ProcessorInUse as error:
        raise Fault(str(error), Status.FAILED) from None
    except ConnectionLost as error:
        raise Fault(str(error), Status.NO_REDIS) from None


def _serve_in_processes(target: str, lists: list[str], settings: Mapping[str, object]) -> int:
    # By variables, for anybody on the machine can read a flag.
    variables = os.environ | {name: str(of) for name, of in settings.items() if of is not None}
    variables.pop("JOBQUEUE_PROCESSES", None)
    servers = Processes(
        [sys.executable, "-m", "jobqueue", "serve", target, "--child"],
        {key: variables | {"JOBQUEUE_IN_PROCESS": key} for key in lists},
    )
    return asyncio.run(servers.run())
