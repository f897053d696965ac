"""Marks what one colour of the client, or both, still get wrong."""

from __future__ import annotations

from typing import Any

import pytest

COLOURS = ("threads", "asyncio")


def faulty(*colours: str, reason: str, raises: Any = AssertionError) -> pytest.MarkDecorator:
    """Expect a test of both colours to fail for these; a test that passes all the same is told.

    Args:
        colours: Which of the two.
        reason: What they get wrong, in one sentence.
        raises: The exception by which the test fails.
    """
    mark = pytest.mark.xfail(strict=True, reason=reason, raises=raises)
    parameters = [pytest.param(name, marks=mark if name in colours else ()) for name in COLOURS]
    return pytest.mark.parametrize("colour", parameters)
