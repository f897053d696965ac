"""The physical limit: as `raw`, but by a plain pipeline, which can lose results."""

from __future__ import annotations

from typing import Any

from entries.raw import drain, unsafe_acknowledgement, version

__all__ = ["serve", "version"]


def serve(url: str, tally: Any, options: Any) -> None:
    drain(url, tally, options, unsafe_acknowledgement, 2)
