"""The lock files of a storage, and the names that its file has."""

import errno
import logging
import os
from pathlib import Path

from zc.lockfile import SimpleLockFile

logger = logging.getLogger("ZODB.FileStorage")

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def real_path(path: str | Path) -> str:
    """Return the absolute path of the file that a path leads to through symbolic links.

    A path that is not a link itself is only made absolute: two paths through links to its
    directory have one lock file anyway.
    """
    absolute = Path(path).absolute()
    return os.path.realpath(absolute) if absolute.is_symlink() else str(absolute)


class _LockFile(SimpleLockFile):  # type: ignore[misc]
    """A lock file with the process id, for people to read, if there is room for it."""

    def _on_lock(self) -> None:
        text = f" {os.getpid()}\n".encode()
        try:
            # Past the file object, which would keep what cannot be written and try again.
            os.write(self._fp.fileno(), text)
            os.ftruncate(self._fp.fileno(), len(text))
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            logger.warning("cannot write the process id to %s: %s", self._path, error)


class LockFiles:
    """Keep other processes from opening a file for writing.

    The lock file beside the file itself counts, whichever link the file is opened by. One
    beside the link as well keeps out ZODB's FileStorage, which knows only that.

    Raises `zc.lockfile.LockError` if another process has the file open for writing.
    """

    def __init__(self, path: str) -> None:
        real = real_path(path)
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
            logger.warning("cannot lock %s beside its link as well: %s", real, error)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the locks."""
        while self._locks:
            self._locks.pop().close()

    def abandon(self) -> None:
        """Forget the locks, which are the parent's, in a forked process."""
        # To release one there would release it for the parent as well.
        self._locks.clear()
