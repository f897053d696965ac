"""The clock of a server: one that never goes back, and that goes on while the machine is suspended.

Where there is no such clock, a machine that was suspended finds its lease gone at the next renewal.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

now: Callable[[], float] = time.monotonic
if hasattr(time, "CLOCK_BOOTTIME"):
    # server.takeover.lapse
    now = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
