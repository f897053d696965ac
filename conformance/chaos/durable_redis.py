"""A Redis that loses nothing it has accepted, and whose append-only file tells what that was."""

import shutil
from pathlib import Path

from jobqueue_conformance.redis_servers.local import LocalRedis

from chaos import append_only_file


class DurableRedis(LocalRedis):
    """A program of this machine with `appendfsync always`, and a file that is never rewritten."""

    def __init__(self, binary: str) -> None:
        super().__init__(binary)
        with self.connect() as admin:
            admin.config_set("aof-use-rdb-preamble", "no")  # commands from the first byte on
        self.keep_data()

    def start(self) -> None:
        """Start it with the data that it has, and return when it answers."""
        super().start()
        with self.connect() as admin:
            admin.config_set("auto-aof-rewrite-percentage", 0)  # a rewrite forgets what was pushed

    def pushed(self, queue: str) -> list[bytes]:
        """Every message that it ever accepted on this queue."""
        return [
            message
            for file in self._files()
            for message in append_only_file.pushed(file.read_bytes(), queue.encode())
        ]

    def save_to(self, folder: Path) -> None:
        """Keep its log and its append-only file for the analysis of a failure."""
        for file in [Path(self._folder, "log"), *self._files()]:
            shutil.copy(file, folder / f"redis-{file.name}")

    def _files(self) -> list[Path]:
        """The append-only file: one until Redis 6, a base and what was added to it since then."""
        return sorted(Path(self._folder).rglob("*.aof"))
