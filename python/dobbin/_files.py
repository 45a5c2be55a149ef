"""Streams that will be stored."""

from __future__ import annotations

import io
import os
import stat
import tempfile
import weakref
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

IN_MEMORY = 1 << 20  # bytes of a copy; a longer one is kept in a temporary file
BLOCK = 1 << 17  # bytes that are copied at a time

# The files that have to be copied before a commit, by their ids. Objects are searched for them
# only while there are any.
_unspooled: weakref.WeakValueDictionary[int, PersistentFile] = weakref.WeakValueDictionary()


class PersistentFile:
    """A stream of bytes or text that will be stored, from its position to its end.

    Text is stored as UTF-8. A `PersistentFile` can be used once: when it is committed it
    becomes a `dobbin.database.PersistentStream`. The caller closes the stream.

    A stream that cannot seek, or that is neither in memory nor a regular file, is copied to
    memory or to a temporary file at the beginning of the commit, before others have to wait.
    So it may be slow, and it is stored completely even if the commit is retried.
    A nonblocking stream raises `BlockingIOError` while it has no data to read.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._start: int | None = None
        self._copy: IO[bytes] | None = None
        self._failure: BaseException | None = None
        if not _can_be_read_again(stream):
            _unspooled[id(self)] = self

    def spool(self) -> None:
        """Copy a stream that is slow or can be read only once.

        The data read before a `BlockingIOError` are kept. After any other error the stream may
        appear to have ended, so it is never stored: the error is raised again.
        """
        if id(self) not in _unspooled:
            return
        if self._failure is not None:
            raise self._failure
        if self._copy is None:
            self._copy = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 -- stays open
        try:
            for block in _blocks(self._stream, BLOCK):
                self._copy.write(block)
        except BlockingIOError:
            raise
        except BaseException as error:
            self._failure = error
            raise
        _unspooled.pop(id(self), None)

    def blocks(self, size: int) -> Iterator[bytes]:
        """Yield the bytes in blocks, from the beginning for each commit that is tried."""
        self.spool()
        if self._copy is not None:
            self._copy.seek(0)
            yield from _blocks(self._copy, size)
            return
        if self._start is None:
            self._start = self._stream.tell()
        else:
            self._stream.seek(self._start)
        yield from _blocks(self._stream, size)

    def release(self) -> None:
        """Drop the copy."""
        if self._copy is not None:
            self._copy.close()

    def __del__(self) -> None:
        # A committed file has become a stream, and has released its copy.
        if type(self) is PersistentFile:
            self.release()

    def __deepcopy__(self, memo: dict[int, Any]) -> PersistentFile:
        """Return the object itself."""
        return self


PersistentFile.__module__ = "dobbin.persistent"


def any_unspooled() -> bool:
    """Whether there is a file that has to be copied before it is committed."""
    return bool(_unspooled)


def _blocks(stream: Any, size: int) -> Iterator[bytes]:
    while True:
        data = stream.read(size)
        if data is None:
            raise BlockingIOError(f"{stream!r} has no data yet: it was not stored")
        if not data:
            return
        yield data.encode() if isinstance(data, str) else bytes(data)


def _can_be_read_again(stream: Any) -> bool:
    """Whether a stream is in memory or a regular file, and can return to its position."""
    if isinstance(stream, (io.BytesIO, io.StringIO, tempfile.SpooledTemporaryFile)):
        return True
    try:
        return bool(stream.seekable()) and stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (AttributeError, OSError, TypeError, ValueError):
        return False
