"""What a Redis has done since a moment: its share of a core, and its calls by command."""

import time
from typing import Any

from redis import Redis


class Costs:
    """Counts from its creation on."""

    def __init__(self, admin: Redis) -> None:
        self._admin = admin
        admin.config_resetstat()
        self._began_s, self._used_s = time.monotonic(), self._used()

    def lines(self, title: str) -> list[str]:
        """The share, the commands per second, and the commands by the time that they took."""
        seconds = time.monotonic() - self._began_s
        share = (self._used() - self._used_s) / seconds
        stats: dict[str, Any] = self._admin.info("commandstats")
        calls = {
            name.removeprefix("cmdstat_"): (each["calls"], each["usec_per_call"])
            for name, each in stats.items()
        }
        total = sum(count for count, _ in calls.values()) / seconds
        most = sorted(calls.items(), key=lambda each: -each[1][0] * each[1][1])[:8]
        by_name = ", ".join(
            f"{name} {count / seconds:.1f}/s of {each_us:.1f} us" for name, (count, each_us) in most
        )
        return [f"{title}: {share:.2%} of a core, {total:.0f} commands/s: {by_name}"]

    def _used(self) -> float:
        used: dict[str, Any] = self._admin.info("cpu")
        return float(used["used_cpu_user"] + used["used_cpu_sys"])
