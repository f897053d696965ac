"""Handles: the text by which the result of a job is collected."""

import json
from pathlib import Path
from typing import Any

import pytest
from jobqueue.errors import InvalidHandle
from jobqueue.protocol import keys
from jobqueue.protocol.handles import Handle

from tests.protocol.test_vectors import message

FILE = Path(__file__).parents[3] / "fixtures" / "handles.json"
VECTORS = json.loads(FILE.read_text("utf-8"))["vectors"]


@pytest.mark.parametrize(
    "vector", [each for each in VECTORS if each["outcome"] == "handle"], ids=lambda each: each["id"]
)
def test_a_handle_names_its_job(vector: dict[str, Any]) -> None:
    """client.kept.handle, client.kept.collects: what is written is read again."""
    handle = Handle.of(message(vector["message"]), vector["job_id"], vector["channel"])

    assert str(handle) == vector["handle"]
    assert Handle.read(vector["handle"]) == handle
    assert keys.result(b"job-queue", handle.digest).decode() == vector["key"]


@pytest.mark.parametrize(
    "vector",
    [each for each in VECTORS if each["outcome"] == "malformed"],
    ids=lambda each: each["id"],
)
def test_what_is_no_handle_is_refused(vector: dict[str, Any]) -> None:
    """client.kept.malformed: it has an error of its own, with a code."""
    with pytest.raises(InvalidHandle, match="not a handle") as refused:
        Handle.read(vector["handle"])
    assert refused.value.code == "invalid-handle"
