"""The command `jobqueue`: reads options and the environment, calls the library, exits with a status.

Each other module of this package holds commands or what they share. Every failure ends as one
sentence on stderr and a status of `terminal.Status`. Every command's help has examples.
"""

import importlib.metadata
import inspect
import logging
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
import typer.core

from jobqueue.cli import dead, doctor, lists, run, serve
from jobqueue.cli.terminal import Fault, Status, complain, flush, prepare_streams, say


def _show_help(context: Any, _: object, asked: bool) -> None:  # noqa: FBT001 - as typer calls it
    if asked:
        say(context.get_help().rstrip())
        context.exit()


class _WithHelp:
    """A command whose help is written like all other output, so that lost output is reported."""

    def get_help_option(self, context: Any) -> Any:
        """Return typer's own option with another callback."""
        option = super().get_help_option(context)  # type: ignore[misc]
        if option is not None:
            option.callback = _show_help
        return option


class _Command(_WithHelp, typer.core.TyperCommand):
    pass


class _Group(_WithHelp, typer.core.TyperGroup):
    pass


# Help is plain text, for people and for grep.
app = typer.Typer(
    cls=_Group,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
dead_app = typer.Typer(cls=_Group, no_args_is_help=True, rich_markup_mode=None)


def main() -> None:
    """Run the command of `sys.argv`, and exit with its status."""
    prepare_streams()
    # A failure is reported once, in a sentence. Only `serve` configures logging.
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
        version = "(not installed: run from a source tree)"
    say(f"jobqueue {version}")
    raise typer.Exit


def _jobqueue(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Run jobs over Redis, serve them, and manage their queue.

      jobqueue serve app:server                  serve jobs until SIGTERM or Ctrl-C
      jobqueue run echo '{"request": "hello"}'   run one job and print its result
      jobqueue result HANDLE                     print the result of a job that was detached
      jobqueue status                            count the messages, tell which servers are alive
      jobqueue dead list                         show the messages that can't be answered
      jobqueue doctor                            check Redis, and say what to change

    The value of an option is the flag's, else the environment variable's, else the default.

      Exit status:
        0    success
        1    the job failed, the command was refused, output was lost, or doctor found something
        2    the command line, its JSON, its URL or its module is not valid
        3    the job's timeout passed: the job may have run, or may run later
        4    Redis can't be reached or refuses: no job was queued
        5    the connection was lost: the job may have run, or may run later
        6    the text is not the handle of a job
        130  Ctrl-C
    """


def _dead() -> None:
    """List, requeue or delete dead messages.

      jobqueue dead list
      jobqueue dead requeue 3f9a1c20be77
      jobqueue dead drop --all

    A dead message is one that no server can answer: it isn't a valid job, or its channel may not be
    published on. `jobqueue dead list` shows the reason.
    """


def _laid_out(command: Callable[..., None]) -> str:
    """Return a command's help, in which indented paragraphs keep their lines."""
    return re.sub(r"\n\n(?= )", "\n\n\b\n", inspect.cleandoc(command.__doc__ or ""))


def _add(to: typer.Typer, commands: dict[str, Callable[..., None]]) -> None:
    for name, command in commands.items():
        to.command(name, cls=_Command, help=_laid_out(command))(command)


app.callback(help=_laid_out(_jobqueue))(_jobqueue)
_add(
    app,
    {
        "serve": serve.serve,
        "run": run.run,
        "result": run.result,
        "status": lists.status,
        "requeue": lists.requeue,
        "unregister": lists.unregister,
        "doctor": doctor.doctor,
    },
)
app.add_typer(dead_app, name="dead")
dead_app.callback(help=_laid_out(_dead))(_dead)
_add(
    dead_app,
    {"list": dead.list_dead, "requeue": dead.requeue_dead, "drop": dead.drop_dead},
)
