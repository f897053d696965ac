"""The names in Redis of one test: its queue, lists and channels.

Fresh for each test, except those that the manifest declares as hard-coded.
"""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from jobqueue_conformance.spec.verdicts import Unsupported

PROCESSOR = "conformance-1"


def digest(message: bytes) -> str:
    """What stands for a message in the name of a key."""
    return hashlib.sha1(message, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Keys:
    """Every name begins with the queue's."""

    queue: str
    processor: str = PROCESSOR
    fixed_list: str | None = None

    @classmethod
    def fresh(cls, hard_coded: Mapping[str, str]) -> "Keys":
        """Names that no other test has, where they aren't hard-coded."""
        queue = hard_coded.get("queue") or f"jobs-{uuid.uuid4().hex[:8]}"
        return cls(queue, fixed_list=hard_coded.get("in-process"))

    def in_process(self, processor: str = PROCESSOR) -> str:
        """The in-process list of a processor."""
        if self.fixed_list is not None:
            if processor != self.processor:
                raise Unsupported("the in-process list is hard-coded, and the test needs two lists")
            return self.fixed_list
        return f"{self.queue}:in-process:{processor}"

    @property
    def dead(self) -> str:
        """The dead list."""
        return f"{self.queue}:dead"

    def count(self, message: bytes) -> str:
        """Where a server counts how often it started a message that it had found."""
        return f"{self.queue}:attempts:{digest(message)}"

    def result(self, message: bytes) -> str:
        """Where a server keeps the result of a message."""
        return f"{self.queue}:result:{digest(message)}"

    @property
    def processors(self) -> str:
        """The registry of in-process lists."""
        return f"{self.queue}:processors"

    def lease(self, in_process: str) -> str:
        """The lease of an in-process list."""
        return f"{self.queue}:lease:{in_process}"

    def channel(self) -> str:
        """A channel that wasn't used before."""
        return f"{self.queue}:results:{uuid.uuid4()}"
