"""`jobqueue run`: one job, from the command line to its result."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from jobqueue.cli.options import Queue, Url
from jobqueue.cli.terminal import Fault, Status, connect, say, to_json
from jobqueue.errors import ConnectionLost, JobError, JobTimeout, NotQueued
from jobqueue.protocol.keys import QUEUE
from jobqueue.threads.client import Client
from jobqueue.wire.pools import DEFAULT_URL


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
    timeout_s: Annotated[
        float | None,
        typer.Option("--timeout", metavar="S", min=0, help="Wait at most S seconds."),
    ] = None,
    redis: Url = DEFAULT_URL,
    queue: Queue = QUEUE,
) -> None:
    """Run one job and print its result.

      jobqueue run echo '{"request": "hello"}'
      jobqueue run resize @picture.json --timeout 30
      date | jq -R . | jobqueue run echo -
      jobqueue run sleep -- -1

    The result is one line of JSON on stdout. An error is one line on stderr, with exit status 1.
    Without --timeout the command waits until the job is answered or the connection is lost.
    """
    value = _read_json(parameters)
    connect(redis, queue).close()  # all commands report an invalid URL in the same sentence
    try:
        with Client(redis, queue=queue) as jobs:
            result = jobs.run(method, value, timeout=timeout_s).result()
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
    except UnicodeEncodeError:
        sentence = "the method, the parameters and the name of the queue must be valid UTF-8"
        raise Fault(sentence, Status.USAGE) from None
    except (TypeError, ValueError) as error:
        raise Fault(f"not a valid job: {error}", Status.USAGE) from None
    say(to_json(result))


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
