"""The clock of a server: one that never goes back, and that goes on while the machine is suspended.

Where there is no such clock, a machine that was suspended finds its lease gone at the next renewal.
"""

from __future__ import annotations

import time

if hasattr(time, "CLOCK_BOOTTIME"):

    def now() -> float:
        """Return the seconds."""
        # server.takeover.lapse
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:
    now = time.monotonic
