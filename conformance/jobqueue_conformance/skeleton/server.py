"""Your server under test. Nothing here is particular to Python: any program that does the same will do."""

import os
import sys

REDIS_URL = os.environ["REDIS_URL"]
QUEUE = os.environ.get("JOBQUEUE_QUEUE", "job-queue")
IN_PROCESS = (
    os.environ.get("JOBQUEUE_IN_PROCESS")
    or f"{QUEUE}:in-process:{os.environ['JOBQUEUE_PROCESSOR']}"
)
BLOCK_MS = int(os.environ.get("JOBQUEUE_BLOCK_MS", "2000"))

# Start your server with these settings and three handlers, then serve until SIGTERM:
#   echo(parameters)  returns the parameters
#   fail(parameters)  fails, with parameters["message"] as its message; by a BaseException where parameters["abruptly"]
#   wait(parameters)  returns the parameters after parameters["ms"] milliseconds
sys.exit(f"write your server here: claim from {QUEUE} onto {IN_PROCESS}")
