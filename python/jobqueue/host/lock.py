"""One server per in-process list: a lock that the kernel frees however its holder dies.

It reaches as far as one user on one host. Across hosts two servers of one name run each other's
jobs again; giving them different names is the operator's part.

The folder of temporary files belongs to everybody. So a folder or file of another user, or one that
others may write to, is not used, and no link is followed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from jobqueue.errors import ProcessorInUse

try:
    import fcntl
except ImportError:  # not a Unix: clients work there, and so does `import jobqueue`
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from types import TracebackType

log = logging.getLogger("jobqueue.server")

# The kernel's locks don't exclude servers within one process. A child that a handler forks holds
# none of its parent's, so the process is a part of the key.
_held_here: dict[tuple[int, str], ProcessorLock] = {}


def require_locks() -> None:
    """Refuse to go on where the platform has no locks that servers need.

    Raises:
        RuntimeError: One sentence that says so.
    """
    if fcntl is None:
        raise RuntimeError(
            "a server needs the module fcntl, which this platform doesn't have; clients work"
        )


class ProcessorLock:
    """Held from entry to exit of a `with` block, by one server."""

    def __init__(self, redis: str, in_process: str) -> None:
        place = f"{redis}\n{in_process}".encode(errors="surrogateescape")
        self._name = f"{hashlib.sha256(place).hexdigest()[:32]}.lock"
        self._key = (os.getpid(), self._name)
        self._in_process = in_process
        self._file: int | None = None
        self._identity = (0, 0)

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            ProcessorInUse: Another server of this host holds it.
            RuntimeError: This platform has no such locks.
        """
        require_locks()
        # server.list.own: looking and adding are one step, whatever other threads do
        if _held_here.setdefault(self._key, self) is not self:
            raise ProcessorInUse(self._refusal("this process"))
        try:
            self._file = self._locked()
        except OSError as error:
            log.warning("no lock file, so a second server isn't noticed: %s", error)
        except BaseException:
            del _held_here[self._key]
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            # The file stays: somebody may be waiting to lock the very one that would be deleted.
            if self._still_open(self._file):
                os.close(self._file)
            else:
                log.warning("a handler closed the lock file: a second server went unnoticed since")
            self._file = None
        _held_here.pop(self._key, None)

    def _locked(self) -> int:
        """Return the file, open and locked.

        Raises:
            OSError: There is no file that could be trusted, or no locks on its disk.
            ProcessorInUse: Another process holds it.
        """
        file = _open_file(self._name)
        try:
            # Unlike flock, lockf isn't inherited by a handler's child, which may outlive the
            # server.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = os.pread(file, 20, 0).decode(errors="replace").strip()
            os.close(file)
            raise ProcessorInUse(self._refusal(f"process {holder or 'unknown'}")) from None
        except OSError:
            os.close(file)
            raise
        with suppress(OSError):  # a full disk: the lock holds, it only can't say whose it is
            os.ftruncate(file, 0)
            os.pwrite(file, b"%d\n" % os.getpid(), 0)
        self._identity = _identity(file)
        return file

    def _still_open(self, file: int) -> bool:
        """Tell whether the descriptor is still ours: a handler may have closed it."""
        try:
            return _identity(file) == self._identity
        except OSError:
            return False

    def _refusal(self, holder: str) -> str:
        return (
            f"the in-process list {self._in_process!r} is in use by a server in {holder}: "
            f"give each server on a host its own processor name"
        )


def _open_file(name: str) -> int:
    """Open a file of the user's own folder of locks, and create both where they don't exist.

    Raises:
        OSError: Something else is in their place, or something that isn't the user's alone.
    """
    path = _folder()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    safely = os.O_NOFOLLOW | os.O_CLOEXEC
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | safely)
    try:
        _require_own(folder, path)
        # Not blocking: nobody would ever open the other end of a named pipe.
        flags = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | safely
        file = os.open(name, flags, 0o600, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        _require_own(file, path / name)
    except OSError:
        os.close(file)
        raise
    return file


def _require_own(file: int, path: Path) -> None:
    """Refuse what isn't this user's, what others may write to, and a second name of another file."""
    is_ = os.fstat(file)
    if is_.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to another user")
    if is_.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{path} can be written to by other users")
    if stat.S_ISREG(is_.st_mode) and is_.st_nlink != 1:
        raise PermissionError(f"{path} is a hard link")
    if not stat.S_ISREG(is_.st_mode) and not stat.S_ISDIR(is_.st_mode):
        raise OSError(f"{path} is not a regular file")


def _identity(file: int) -> tuple[int, int]:
    """Tell one open file from another."""
    is_ = os.fstat(file)
    return is_.st_dev, is_.st_ino


def _folder() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "jobqueue"
    return Path(tempfile.gettempdir()) / f"jobqueue-{os.geteuid()}"
