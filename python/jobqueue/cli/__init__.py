"""The command `jobqueue`: options and environment in, a call of the library each, a status out.

Each module beside this one holds commands or what they share. Every fault ends as one sentence on
stderr and a status of `terminal.Status`; every command's help shows lines to type.
"""

import importlib.metadata
import inspect
import logging
import re
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from jobqueue.cli import dead, lists, run, serve
from jobqueue.cli.terminal import Fault, Status, complain, flush, prepare_streams, say

# Help is plain text, for people and for grep alike.
app = typer.Typer(
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
dead_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


def main() -> None:
    """Run the command of `sys.argv`, and exit with its status."""
    prepare_streams()
    # Faults are told once, in a sentence; the log is for `serve`, which sets it up.
    logging.getLogger("jobqueue").addHandler(logging.NullHandler())
    status = _status_of(lambda: app(prog_name="jobqueue"))
    lost = _status_of(flush)
    sys.exit(status or lost)


def _status_of(step: Callable[[], None]) -> int:
    try:
        step()
    except SystemExit as end:  # how typer ends
        return int(end.code or Status.DONE)
    except Fault as fault:
        complain(str(fault))
        return fault.status
    return Status.DONE


def _show_version(asked: bool) -> None:  # noqa: FBT001 - as typer calls it
    if not asked:
        return
    try:
        version = importlib.metadata.version("jobqueue")
    except importlib.metadata.PackageNotFoundError:
        version = "of a source tree that isn't installed"
    say(f"jobqueue {version}")
    raise typer.Exit


def _jobqueue(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Run jobs by way of Redis, serve them, and look after their queue.

      jobqueue serve app:server                  serve jobs until SIGTERM or Ctrl-C
      jobqueue run echo '{"request": "hello"}'   run one job and print its result
      jobqueue status                            count the messages on each list

    An option's value is that of the flag, else of the environment variable, else the default.

      Exit status:
        0    done
        1    the job was answered with an error, or the command was refused
        2    the command line, its JSON, its URL or its module is wrong
        3    the job's timeout passed without a result: it may run yet
        4    Redis can't be reached or refuses: nothing was queued
        5    a connection was lost: the job may have run
        130  Ctrl-C
    """


def _dead() -> None:
    """Look at, requeue or drop what no server could answer."""


def _laid_out(command: Callable[..., None]) -> str:
    """Return a command's help, in which indented paragraphs keep their lines."""
    return re.sub(r"\n\n(?= )", "\n\n\b\n", inspect.cleandoc(command.__doc__ or ""))


def _add(to: typer.Typer, commands: dict[str, Callable[..., None]]) -> None:
    for name, command in commands.items():
        to.command(name, help=_laid_out(command))(command)


app.callback(help=_laid_out(_jobqueue))(_jobqueue)
_add(
    app,
    {
        "serve": serve.serve,
        "run": run.run,
        "status": lists.status,
        "requeue": lists.requeue,
    },
)
app.add_typer(dead_app, name="dead")
dead_app.callback(help=_laid_out(_dead))(_dead)
_add(
    dead_app,
    {"list": dead.list_dead, "requeue": dead.requeue_dead, "drop": dead.drop_dead},
)
