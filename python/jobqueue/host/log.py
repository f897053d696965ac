"""Logs of threads and tasks on which callers depend: a log that fails is no reason to end.

A handler or a filter of the application may raise, for instance where a disk is full.
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
    """A logger whose calls raise nothing.

    Args:
        name: Of the logger.
    """

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name))

    def log(self, level: int, msg: object, *args: Any, **options: Any) -> None:
        """Log, through which all other calls go, too."""
        options["stacklevel"] = options.get("stacklevel", 1) + 1
        with contextlib.suppress(Exception):
            super().log(level, msg, *args, **options)
