"""Options that several commands share."""

from typing import Annotated

import typer

Url = Annotated[
    str,
    typer.Option(
        "--redis",
        metavar="URL",
        envvar="REDIS_URL",
        help="The URL of Redis. Other users of this machine can read flags: put a password into the "
        "environment variable.",
    ),
]
Queue = Annotated[
    str, typer.Option("--queue", metavar="KEY", envvar="JOBQUEUE_QUEUE", help="The queue's key.")
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]
