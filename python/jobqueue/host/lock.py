"""One server per in-process list: a lock that the kernel frees however its holder dies.

It reaches as far as one user on one host. Across hosts two servers of one name run each other's
jobs again; giving them different names is the operator's part.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from jobqueue.errors import ProcessorInUse

if TYPE_CHECKING:
    from types import TracebackType

log = logging.getLogger("jobqueue.server")

_held_here: set[Path] = set()


class ProcessorLock:
    """Held from entry to exit of a `with` block, by one server."""

    def __init__(self, redis: str, in_process: str) -> None:
        name = hashlib.sha256(f"{redis}\n{in_process}".encode()).hexdigest()[:32]
        self._in_process = in_process
        self._path = _directory() / f"{name}.lock"
        self._file: int | None = None

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            ProcessorInUse: Another server of this host holds it.
        """
        # server.list.own
        if self._path in _held_here:
            raise ProcessorInUse(self._refusal("this process"))
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            log.warning("no lock file, so a second server isn't noticed: %s", error)
            return self
        try:
            # Unlike flock, lockf isn't inherited by a handler's child, which may outlive the
            # server.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(file, 20, 0).decode(errors="replace").strip()
            os.close(file)
            raise ProcessorInUse(self._refusal(f"process {holder or 'unknown'}")) from None
        os.ftruncate(file, 0)
        os.pwrite(file, b"%d\n" % os.getpid(), 0)
        self._file = file
        _held_here.add(self._path)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            # The file stays: somebody may be waiting to lock the very one that would be deleted.
            os.close(self._file)
            self._file = None
            _held_here.discard(self._path)

    def _refusal(self, holder: str) -> str:
        return (
            f"the in-process list {self._in_process!r} is in use by a server in {holder}: "
            f"give each server on a host its own processor name"
        )


def _directory() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "jobqueue"
    return Path(tempfile.gettempdir()) / f"jobqueue-{os.getuid()}"
