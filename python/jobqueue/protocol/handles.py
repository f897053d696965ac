"""The handle of a job: a text by which whoever has it collects the job's result (section 6.3)."""

from __future__ import annotations

import base64
import re
from typing import NamedTuple, Self

from jobqueue.errors import InvalidHandle
from jobqueue.protocol import keys

_FORM = re.compile(r"([0-9a-f]{40})\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)


class Handle(NamedTuple):
    """What a handle says: it is a secret, since its holder can read and forge the result."""

    digest: bytes
    id: str
    channel: str

    @classmethod
    def of(cls, message: bytes, job_id: str, channel: str) -> Self:
        """Return the handle of the job with these bytes."""
        return cls(keys.digest(message), job_id, channel)

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a handle.

        Raises:
            InvalidHandle: The text has another form.
        """
        # client.kept.malformed
        if (parts := _FORM.fullmatch(text)) is None:
            raise InvalidHandle
        return cls(parts[1].encode(), _decoded(parts[2]), _decoded(parts[3]))

    def __str__(self) -> str:
        # client.kept.handle
        return f"{self.digest.decode()}.{_encoded(self.id)}.{_encoded(self.channel)}"


def _encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decoded(part: str) -> str:
    try:
        text = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
    except ValueError:
        raise InvalidHandle from None
    if _encoded(text) != part:  # bits that stand for nothing are set
        raise InvalidHandle
    return text
