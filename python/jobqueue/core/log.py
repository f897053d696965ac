"""Logging for servers, threads and tasks that others depend on: a failing log must not end them.

A handler or a filter of the application may raise, for example if a disk is full.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Adapter = logging.LoggerAdapter[logging.Logger]
else:
    Adapter = logging.LoggerAdapter


class Log(Adapter):
    """A logger whose methods don't raise.

    Args:
        name: The name of the logger.
    """

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name))

    def log(self, level: int, msg: object, *args: Any, **options: Any) -> None:
        """Log a message; all other methods call this one."""
        options["stacklevel"] = options.get("stacklevel", 1) + 1
        with contextlib.suppress(Exception):
            super().log(level, msg, *args, **options)
