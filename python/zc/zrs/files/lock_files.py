"""The lock files of a storage, and the lock on its file under all names."""

import contextlib
import errno
import fcntl
import logging
import os
from pathlib import Path

from zc.lockfile import LockError, SimpleLockFile

logger = logging.getLogger("ZODB.FileStorage")

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_LOCKS = frozenset({errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
_NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def real_path(path: str | Path) -> str:
    """Return the absolute path of the file that a path leads to through symbolic links.

    If the last component is not a link, the path is only made absolute: paths through links to
    its directory lead to the same lock file.
    """
    absolute = Path(path).absolute()
    return os.path.realpath(absolute) if absolute.is_symlink() else str(absolute)


class _LockFile(SimpleLockFile):  # type: ignore[misc]
    """A lock file with the process id for information, if it can be written."""

    def _on_lock(self) -> None:
        text = f" {os.getpid()}\n".encode()
        try:
            # Bypasses the file object, which would buffer a failed write and try again.
            os.write(self._fp.fileno(), text)
            os.ftruncate(self._fp.fileno(), len(text))
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            logger.warning("cannot write the process id to %s: %s", self._path, error)


def warn_about_hard_links(path: str) -> None:
    """Log a warning if a file has more than one name (hard links)."""
    count = Path(path).stat().st_nlink
    if count > 1:
        logger.warning(
            "%s has %d names (hard links): until the next pack all of them show what is"
            " committed here, so none of them is a backup, and a pack replaces the file"
            " only under this name",
            path,
            count,
        )


class _FileLock:
    """The lock on the file itself, independent of its names.

    On file systems without such locks, no lock is taken.
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.abandon()
            raise LockError(
                f"{path} is already open for writing, in another process or by another name"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                self.abandon()
                raise

    def is_of(self, path: str) -> bool:
        """Return whether this is the lock on the file that is now at the path."""
        return os.path.samestat(os.fstat(self._file), Path(path).stat())

    def close(self) -> None:
        # Forked processes may have the file open too.
        with contextlib.suppress(OSError):
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self.abandon()

    def abandon(self) -> None:
        os.close(self._file)


class LockFiles:
    """Prevents other processes from opening a file for writing.

    The lock file next to the real file is decisive, whichever link the file is opened by. A
    second one next to the link excludes ZODB's FileStorage, which uses only that. The lock on
    the file itself excludes processes that open it by another name, a hard link.

    Raises `zc.lockfile.LockError` if another process has the file open for writing.
    """

    def __init__(self, path: str) -> None:
        real = real_path(path)
        self._file: _FileLock | None = None
        self._locks = [_LockFile(f"{real}.lock")]
        link = str(Path(path).absolute())
        if link == real:
            return
        try:
            self._locks.append(_LockFile(f"{link}.lock"))
        except OSError as error:
            if error.errno not in _NOT_WRITABLE:
                self.close()
                raise
            logger.warning("cannot lock %s in addition to its link: %s", real, error)
        except BaseException:
            self.close()
            raise

    def lock_file(self, path: str) -> None:
        """Lock the file that is now at the path, if any, and release the lock on any other.

        Called before the file is changed, and after it was replaced.
        """
        before = self._file
        if not Path(path).exists() or (before is not None and before.is_of(path)):
            return
        self._file = _FileLock(path)
        if before is not None:
            before.close()

    def close(self) -> None:
        """Release the locks."""
        if self._file is not None:
            self._file.close()
            self._file = None
        while self._locks:
            self._locks.pop().close()

    def abandon(self) -> None:
        """Abandon the locks, which belong to the parent, in a forked process."""
        # Releasing one here would release it for the parent too.
        if self._file is not None:
            self._file.abandon()
            self._file = None
        self._locks.clear()
