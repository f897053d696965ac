"""The handle of a job, by which whoever has it collects the result. Pure."""

import base64
import re
from dataclasses import dataclass

from jobqueue_conformance.spec.keys import digest
from jobqueue_conformance.spec.messages import Job

FORM = re.compile(r"([0-9a-f]{40})\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


@dataclass(frozen=True)
class Handle:
    """What a handle says."""

    digest: str
    id: str
    channel: str


def written(job: Job) -> str:
    """The handle of a job."""
    return f"{digest(job.message)}.{_encoded(job.id)}.{_encoded(job.channel)}"


def read(text: str) -> Handle:
    """What a handle says.

    Raises:
        ValueError: it is malformed.
    """
    match = FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r:.200} doesn't have the three parts of a handle")
    return Handle(match[1], _decoded(match[2]), _decoded(match[3]))


def _encoded(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def _decoded(part: str) -> str:
    name = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
    if not name or _encoded(name) != part:
        raise ValueError(f"{part!r:.200} isn't what an encoder writes")
    return name
