"""Client drivers that do nothing of what the protocol asks, and yet might be taken for one.

`python client.py NAME` runs one of them; every test has to fail against each (see null.toml).
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any


def exits_at_once() -> None:
    """Is gone before the first line."""


def does_nothing() -> None:
    """Reads its input, and writes nothing."""
    for _ in sys.stdin:
        pass


def hangs() -> None:
    """Doesn't even read, and never ends."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()


def answers_null() -> None:
    """Settles every job with null, without Redis."""
    for line in sys.stdin:
        settle(json.loads(line)["seq"], None)


def echoes_garbage() -> None:
    """Writes what it reads."""
    for line in sys.stdin:
        print(line, end="", flush=True)


def publishes_to_everyone() -> None:
    """Settles every job so far with the parameters of the newest, without Redis."""
    settled = []
    for line in sys.stdin:
        call = json.loads(line)
        settled.append(call["seq"])
        for seq in settled:
            settle(seq, call.get("parameters"))


def settle(seq: int, value: Any) -> None:
    print(json.dumps({"seq": seq, "result": value}), flush=True)


MEMBERS = {
    member.__name__.replace("_", "-"): member
    for member in (
        exits_at_once,
        does_nothing,
        hangs,
        answers_null,
        echoes_garbage,
        publishes_to_everyone,
    )
}

if __name__ == "__main__":
    MEMBERS[sys.argv[1]]()
