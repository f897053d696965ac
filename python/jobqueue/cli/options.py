"""The options that several commands have in common."""

from typing import Annotated

import typer

Url = Annotated[
    str,
    typer.Option(
        "--redis",
        metavar="URL",
        envvar="REDIS_URL",
        help="Where Redis is. Others on this machine can read flags: a password belongs in the "
        "variable.",
    ),
]
Queue = Annotated[
    str, typer.Option("--queue", metavar="KEY", envvar="JOBQUEUE_QUEUE", help="The queue's key.")
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
