"""One server per in-process list: a lock that the kernel releases however its holder dies.

It covers one user on one host. Two servers of one name on two hosts run each other's jobs again: the
operator has to give them different names.

The directory for temporary files is shared with other users. So a directory or file that belongs to
another user, or that others may write to, is not used, and no link is followed.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from jobqueue.core.log import Log
from jobqueue.errors import ProcessorInUse

try:
    import fcntl
except ImportError:  # Windows, where clients and `import jobqueue` work
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from types import TracebackType

log = Log("jobqueue.server")

# The kernel's locks don't exclude servers within one process. A child that a handler forks holds
# no lock of its parent, so the process id is part of the key.
_held_here: dict[tuple[int, str], ProcessorLock] = {}


def require_locks() -> None:
    """Check that the platform has the locks that servers need.

    Raises:
        RuntimeError: It has not.
    """
    if fcntl is None:
        raise RuntimeError(
            "a server needs the module fcntl, which this platform doesn't have (clients do work here)"
        )


def processor_name(*, fresh: bool) -> str:
    """Return the host's name, or one that begins with it and that no other server has."""
    host = socket.gethostname()
    return f"{host}-{secrets.token_hex(4)}" if fresh else host


class ProcessorLock:
    """Held from entry to exit of a `with` block, by one server."""

    def __init__(self, redis: str, in_process: str) -> None:
        place = f"{redis}\n{in_process}".encode(errors="surrogateescape")
        self._name = f"{hashlib.sha256(place).hexdigest()[:32]}.lock"
        self._key = (os.getpid(), self._name)
        self._in_process = in_process
        self._file: int | None = None
        self._former: bytes | None = None
        self._identity = (0, 0)

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            ProcessorInUse: Another server of this host holds it.
            RuntimeError: This platform has no such locks.
        """
        require_locks()
        # server.list.own: testing and adding are one step, whatever other threads do
        if _held_here.setdefault(self._key, self) is not self:
            raise ProcessorInUse(self._refusal("this process"))
        try:
            self._file = self._locked()
        except OSError as error:
            log.warning("no lock file, so a second server can't be detected: %s", error)
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
            # The file stays: another process may have opened it and be about to lock it.
            if self._still_open(self._file):
                os.close(self._file)
            else:
                log.warning("a handler closed the lock file: a second server could have started")
            self._file = None
        _held_here.pop(self._key, None)

    def exchange_token(self) -> tuple[bytes, bytes | None]:
        """Make a token for a new life of the server, and keep it in the file.

        Returns:
            The token, and the one of the life before, which is over, if the file has it.
        """
        token = secrets.token_hex(16).encode()
        former, self._former = self._former, token
        if self._file is not None:
            self._write(self._file, token)
        return token, former

    def _write(self, file: int, token: bytes) -> None:
        with suppress(
            OSError
        ):  # the disk is full: the lock works, but the file doesn't say for whom
            os.ftruncate(file, 0)
            os.pwrite(file, b"%d\n%b\n" % (os.getpid(), token), 0)

    def _locked(self) -> int:
        """Return the descriptor of the file, open and locked.

        Raises:
            OSError: There is no file that can be trusted, or its file system has no locks.
            ProcessorInUse: Another process holds it.
        """
        file = _open_file(self._name)
        try:
            # Unlike a lock of flock, one of lockf isn't inherited by a child of a handler, which
            # may outlive the server.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = os.pread(file, 20, 0).decode(errors="replace").partition("\n")[0].strip()
            os.close(file)
            raise ProcessorInUse(self._refusal(f"process {holder or 'unknown'}")) from None
        except OSError:
            os.close(file)
            raise
        token = os.pread(file, 100, 0).partition(b"\n")[2].strip()
        self._former = token or None
        self._write(file, token)
        self._identity = _identity(file)
        return file

    def _still_open(self, file: int) -> bool:
        """Tell whether the descriptor still refers to the file: a handler may have closed it."""
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
    """Open a file in the user's own directory of locks; both are created if they don't exist.

    Raises:
        OSError: One of them is of another kind, or doesn't belong to the user alone.
    """
    path = _folder()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    safely = os.O_NOFOLLOW | os.O_CLOEXEC
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | safely)
    try:
        _require_own(folder, path)
        # Non-blocking: opening a named pipe would wait for a reader.
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
    """Refuse a file of another user, one that others may write to, and a hard link."""
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
    """Return what identifies an open file."""
    is_ = os.fstat(file)
    return is_.st_dev, is_.st_ino


def _folder() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "jobqueue"
    return Path(tempfile.gettempdir()) / f"jobqueue-{os.geteuid()}"
