"""`jobqueue serve`: run an application's server in this process, or in several child processes."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

import typer

from jobqueue import aio
from jobqueue.cli.processes import Processes, hangup_ends, stop_with_parent
from jobqueue.cli.target import load, override
from jobqueue.cli.terminal import Fault, Status
from jobqueue.errors import ConnectionLost, ProcessorInUse, ProcessorLost
from jobqueue.host.lock import require_locks
from jobqueue.threads.server import Server

_log = logging.getLogger("jobqueue.cli")


class LogLevel(StrEnum):
    """The least severe level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def serve(
    target: Annotated[
        str,
        typer.Argument(metavar="MODULE:SERVER", help="A module, and the name of a server in it."),
    ],
    *,
    processes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            envvar="JOBQUEUE_PROCESSES",
            help="Run N server processes, named PROCESSOR-1 to PROCESSOR-N, and restart those that "
            "die.",
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            envvar="JOBQUEUE_CONCURRENCY",
            help="The number of handlers that a server runs at the same time.",
        ),
    ] = None,
    attempts: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            envvar="JOBQUEUE_MAX_ATTEMPTS",
            help="How often a job is started again after a server that ran it has ended, before it "
            "is given up; 0 is without limit.",
        ),
    ] = None,
    keep_max_ms: Annotated[
        int | None,
        typer.Option(
            "--keep-max-ms",
            metavar="MS",
            min=0,
            envvar="JOBQUEUE_KEEP_MAX_MS",
            help="The longest time, in milliseconds, for which results are kept of jobs that ask for "
            "it; 0 keeps none.",
        ),
    ] = None,
    takeover: Annotated[
        bool | None,
        typer.Option(
            "--takeover/--no-takeover",
            envvar="JOBQUEUE_TAKEOVER",
            show_default=False,
            help="Whether this server adopts the jobs of servers that never come back, and others "
            "adopt its own.",
        ),
    ] = None,
    processor: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            envvar="JOBQUEUE_PROCESSOR",
            help="The name of the server: unique, and the same after a restart.",
        ),
    ] = None,
    in_process: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="JOBQUEUE_IN_PROCESS",
            help="The whole key of the in-process list, instead of one that follows from the "
            "processor.",
        ),
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="REDIS_URL",
            help="The URL of Redis. Other users of this machine can read flags: put a password into "
            "the environment variable.",
        ),
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="The queue's key; several flags for several queues. The variable JOBQUEUE_QUEUE has "
            "one key.",
        ),
    ] = None,
    order: Annotated[
        Literal["fair", "priority"] | None,
        typer.Option(
            envvar="JOBQUEUE_ORDER",
            help="Which of several queues is served next: the one that was served least, or the "
            "first one that has a job.",
        ),
    ] = None,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(
            envvar="JOBQUEUE_LOG_LEVEL",
            help="The least severe level to log. The default is info, unless MODULE configures "
            "logging.",
        ),
    ] = None,
    child: Annotated[bool, typer.Option("--child", hidden=True)] = False,
) -> None:
    """Serve jobs until SIGTERM, SIGHUP or Ctrl-C.

      jobqueue serve app:server
      jobqueue serve app:server --processor web-1 --concurrency 8
      jobqueue serve app:server --processes 4

    MODULE is imported, from the current directory first. SERVER is a jobqueue.Server or a
    jobqueue.aio.Server in it. A setting without a flag or a variable keeps the module's value.

    The first signal stops the server gracefully: it claims no more jobs, and finishes those that it
    has claimed. A second Ctrl-C stops it at once: claimed jobs run when a server of the same name
    starts again.

    The log goes to stderr, unless MODULE configures logging itself.
    """
    if not queue and (name := os.environ.get("JOBQUEUE_QUEUE")):
        queue = [name]  # Typer would split it at white space
    server = override(
        _loaded(target, log_level),
        redis=redis,
        queue=queue,
        order=order,
        processor=processor,
        in_process=in_process,
        concurrency=concurrency,
        attempts=attempts,
        keep_limit=None if keep_max_ms is None else keep_max_ms / 1000,
        takeover=takeover,
    )
    if processes is not None:
        settings = {
            "REDIS_URL": redis,
            "JOBQUEUE_ORDER": order,
            "JOBQUEUE_CONCURRENCY": concurrency,
            "JOBQUEUE_MAX_ATTEMPTS": attempts,
            "JOBQUEUE_KEEP_MAX_MS": keep_max_ms,
            "JOBQUEUE_TAKEOVER": takeover,
            "JOBQUEUE_LOG_LEVEL": log_level,
        }
        flags = [part for key in queue or () for part in ("--queue", key)]
        raise typer.Exit(_serve_in_processes([target, *flags], server, processes, settings))
    if child:
        stop_with_parent()
    if hangup_ends():
        signal.signal(signal.SIGHUP, lambda *_: server.stop())
        # A child that a handler forks is not a server.
        os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
    try:
        if isinstance(server, aio.Server):
            asyncio.run(server.run())
        else:
            server.run()
    # server.stop.exit: status 0 where `run` has returned, drained.
    except (ProcessorInUse, ProcessorLost) as error:
        raise Fault(str(error), Status.FAILED) from None
    except ConnectionLost as error:
        raise Fault(str(error), Status.NO_REDIS) from None


def _loaded(target: str, level: LogLevel | None) -> Server | aio.Server:
    """Import the server, then configure logging: the application's own configuration comes first."""
    try:
        require_locks()
        server = load(target)
    except RuntimeError as error:
        raise Fault(str(error), Status.FAILED) from None
    except Fault as fault:
        _configure_logging(level)
        _log.debug("can't load the server %s", target, exc_info=fault.__cause__)
        raise
    _configure_logging(level)
    return server


def _configure_logging(level: LogLevel | None) -> None:
    """Log to stderr, unless the application that was imported has configured logging itself."""
    ours = [logging.getLogger("jobqueue")]
    ours += [
        logger
        for name, logger in logging.root.manager.loggerDict.items()
        if name.startswith("jobqueue.") and isinstance(logger, logging.Logger)
    ]
    for logger in ours:
        logger.disabled = False  # dictConfig disables every logger that it doesn't name
    handlers = [handler for logger in (logging.root, *ours) for handler in logger.handlers]
    if all(isinstance(handler, logging.NullHandler) for handler in handlers):
        logging.basicConfig(
            level=(level or LogLevel.INFO).upper(),
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
            force=True,  # basicConfig does nothing if there is a handler, even a NullHandler
        )
    elif level is not None:
        ours[0].setLevel(level.upper())


def _serve_in_processes(
    arguments: list[str],
    server: Server | aio.Server,
    processes: int,
    settings: Mapping[str, object],
) -> int:
    # In variables: every user of the machine can read flags.
    variables = os.environ | {name: str(of) for name, of in settings.items() if of is not None}
    variables.pop("JOBQUEUE_PROCESSES", None)
    # Several queues have no list in common, but their processor.
    of_several = len(server.queues) > 1
    name = server.processor if of_several else server.in_process
    variable = "JOBQUEUE_PROCESSOR" if of_several else "JOBQUEUE_IN_PROCESS"
    names = [f"{name}-{number}" for number in range(1, processes + 1)]
    servers = Processes(
        [sys.executable, "-m", "jobqueue", "serve", *arguments, "--child"],
        {each: variables | {variable: each} for each in names},
    )
    return asyncio.run(servers.run())
