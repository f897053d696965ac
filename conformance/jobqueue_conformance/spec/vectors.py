"""The vectors of `fixtures/`, as the tests read them.

Pure but for reading the files. What a vector means stands in the folder's README.
"""

import base64
import json
from functools import cache
from typing import Any, TypeAlias

from jobqueue_conformance.spec import data
from jobqueue_conformance.spec.messages import Job

Vector: TypeAlias = dict[str, Any]


@cache
def vectors(name: str, *outcomes: str) -> tuple[Vector, ...]:
    """The vectors of `fixtures/<name>.json`: all, or those with one of the outcomes."""
    listed: list[Vector] = data.load(data.folder("fixtures") / f"{name}.json")["vectors"]
    return tuple(each for each in listed if not outcomes or each["outcome"] in outcomes)


def message(vector: Vector, job_id: str = "") -> bytes:
    """The bytes of a vector's message, with this id where it leaves room for one."""
    return b"".join(_bytes(part, job_id) for part in vector["message"])


def job(vector: Vector) -> Job:
    """The job of a vector that is run or answered; its method is "" where it has none."""
    unknown = "unknown" if vector["outcome"] == "method-not-found" else ""
    return Job(
        message(vector),
        vector["job_id"],
        vector["channel"],
        vector.get("method", unknown),
        vector.get("parameters"),
    )


def _bytes(part: dict[str, Any], job_id: str) -> bytes:
    if "base64" in part:
        return base64.b64decode(part["base64"])
    if "insert" in part:
        return json.dumps(job_id, ensure_ascii=False)[1:-1].encode()
    text: str = part["text"]
    return text.encode() * int(part.get("repeat", 1))
