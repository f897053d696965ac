"""Your client under test: jobs in, outcomes out, a line of JSON each."""

import json
import os
import sys

REDIS_URL = os.environ["REDIS_URL"]
QUEUE = os.environ.get("JOBQUEUE_QUEUE", "job-queue")


def run(method: str, parameters: object, timeout_ms: int | None) -> dict[str, object]:
    """Run one job with your client; return its outcome."""
    sys.exit(f"write your client here: push {method} to {QUEUE} and wait for its result")


for line in sys.stdin:
    call = json.loads(line)
    outcome = run(call["method"], call["parameters"], call.get("timeout_ms"))
    print(json.dumps({"seq": call["seq"], **outcome}), flush=True)
