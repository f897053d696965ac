"""`jobqueue run` and `jobqueue result`: one job, from the command line to its result."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from jobqueue.cli.options import Queue, Url
from jobqueue.cli.terminal import Fault, Status, connect, say, to_json
from jobqueue.errors import ConnectionLost, InvalidHandle, JobError, JobTimeout, NotQueued
from jobqueue.protocol.keys import QUEUE
from jobqueue.threads.client import Client
from jobqueue.wire.pools import DEFAULT_URL

KEEP_SECONDS = 3600.0  # for a detached job: what servers allow unless they are configured

Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="S", min=0, help="Wait at most S seconds."),
]


def run(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="The method of the job.")],
    parameters: Annotated[
        str,
        typer.Argument(
            metavar="JSON|@FILE|-",
            help="The parameters of the job: JSON, a file that holds JSON, or - for stdin.",
        ),
    ] = "null",
    *,
    timeout_s: Timeout = None,
    keep_s: Annotated[
        float | None,
        typer.Option("--keep", metavar="S", min=0, help="Keep the result for S seconds."),
    ] = None,
    detach: Annotated[
        bool,
        typer.Option(
            "--detach", help="Print the job's handle instead of its result; keep this for an hour."
        ),
    ] = False,
    redis: Url = DEFAULT_URL,
    queue: Queue = QUEUE,
) -> None:
    """Run one job and print its result.

      jobqueue run echo '{"request": "hello"}'
      jobqueue run resize @picture.json --timeout 30
      date | jq -R . | jobqueue run echo -
      jobqueue run sleep -- -1
      jobqueue result "$(jobqueue run report --detach)"

    The result is one line of JSON on stdout. An error is one line on stderr, with exit status 1.
    Without --timeout the command waits until the job is answered or the connection is lost. With
    --keep it finds a result that came while the connection was lost.

    A handle is a secret: whoever has it can read the result.
    """
    value = _read_json(parameters)
    connect(redis, queue).close()  # all commands report an invalid URL in the same sentence
    if detach and keep_s is None:
        keep_s = KEEP_SECONDS
    with _faults(timeout_s), Client(redis, queue=queue) as jobs:
        job = jobs.run(method, value, timeout=timeout_s, keep=keep_s, detached=detach)
        line = job.handle if detach else to_json(job.result())
    say(str(line))


def result(
    handle: Annotated[str, typer.Argument(metavar="HANDLE", help="What `run --detach` printed.")],
    *,
    timeout_s: Timeout = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the result from Redis when it is here.")
    ] = False,
    redis: Url = DEFAULT_URL,
    queue: Queue = QUEUE,
) -> None:
    """Print the result of a job that was detached, and wait for it if it isn't there yet.

      jobqueue result 4a0fa57e….MQ.am9i…
      jobqueue result "$HANDLE" --timeout 30

    Whoever has the handle may do so, as often as they like, while the result is kept. A result that
    isn't there any more, or that never was, can't be told from one that is still to come: give a
    --timeout.
    """
    connect(redis, queue).close()  # all commands report an invalid URL in the same sentence
    with _faults(timeout_s), Client(redis, queue=queue) as jobs:
        line = to_json(jobs.collect(handle, timeout=timeout_s, delete=delete).result())
    say(line)


@contextmanager
def _faults(timeout_s: float | None) -> Iterator[None]:
    """Report what becomes of a job that has no result."""
    try:
        yield
    except JobError as error:
        data = "" if error.data is None else f"; data: {to_json(error.data)}"
        raise Fault(f"{error}{data}", Status.FAILED) from None
    except JobTimeout:
        sentence = f"no result within {timeout_s:g} s; the job may have run, or may run later"
        raise Fault(sentence, Status.TIMEOUT) from None
    except NotQueued as error:
        raise Fault(f"the job was not queued: {error}", Status.NO_REDIS) from None
    except ConnectionLost as error:
        raise Fault(f"no result came: {error}", Status.LOST) from None
    except InvalidHandle as error:
        raise Fault(str(error), Status.NO_HANDLE) from None
    except UnicodeEncodeError:
        sentence = "the method, the parameters and the name of the queue must be valid UTF-8"
        raise Fault(sentence, Status.USAGE) from None
    except (TypeError, ValueError) as error:
        raise Fault(f"not a valid job: {error}", Status.USAGE) from None


def _read_json(source: str) -> Any:
    try:
        if source == "-" and sys.stdin is None:  # Python sets it to None if it is closed
            raise Fault("the parameters can't be read: standard input is closed", Status.USAGE)
        if source == "-":
            return json.loads(sys.stdin.buffer.read().decode("utf-8-sig"))
        if source.startswith("@"):
            return json.loads(Path(source[1:]).read_bytes().decode("utf-8-sig"))
        return json.loads(source)
    except OSError as error:
        raise Fault(f"the parameters can't be read: {error}", Status.USAGE) from None
    except RecursionError:
        raise Fault("the parameters are nested too deeply", Status.USAGE) from None
    except ValueError as error:
        raise Fault(f"the parameters are not valid JSON: {error}", Status.USAGE) from None
