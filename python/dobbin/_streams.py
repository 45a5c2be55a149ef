"""Streams in a database."""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zc.zrs import _zrs


class HasLog(Protocol):
    """The store that a stream is in."""

    @property
    def log(self) -> _zrs.ObjectLog:
        """The open log; a forked child opens its own."""


class _Position(threading.local):
    at: int | None = None  # None while the stream is closed


class PersistentStream:
    """A stream of bytes in a database.

    Iterate over it to read it in blocks, or open it to read and seek. Each thread has to open
    it separately.
    """

    def __init__(self, store: HasLog, oid: int) -> None:
        self._store = store
        self.oid = oid
        self._position = _Position()

    def belongs_to(self, store: HasLog) -> bool:
        """Whether the stream is in this store."""
        return self._store is store

    def __len__(self) -> int:
        return self._store.log.stream_length(self.oid)

    def __bool__(self) -> bool:
        return True

    def blocks(self, _size: int = 0) -> Iterator[bytes]:
        """Yield all bytes in their stored blocks."""
        at = 0
        while data := self._store.log.stream_bytes(self.oid, at):
            at += len(data)
            yield data

    def __iter__(self) -> Iterator[bytes]:
        return self.blocks()

    @property
    def closed(self) -> bool:
        """Whether the stream is closed in this thread."""
        return self._position.at is None

    def open(self) -> None:
        """Open the stream at its beginning."""
        self._position.at = 0

    def close(self) -> None:
        """Close the stream."""
        self._position.at = None

    def _opened(self) -> int:
        at = self._position.at
        if at is None:
            raise ValueError("I/O operation on a closed stream; call open() first")
        return at

    def read(self, size: int | None = -1) -> bytes:
        """Return at most `size` bytes, or the rest."""
        at = self._opened()
        rest = max(len(self) - at, 0)
        wanted = rest if size is None or size < 0 else min(size, rest)
        parts = []
        while wanted > 0:
            data = self._store.log.stream_bytes(self.oid, at)[:wanted]
            if not data:
                break
            parts.append(data)
            at += len(data)
            wanted -= len(data)
        self._position.at = at
        return b"".join(parts)

    def tell(self) -> int:
        """Return the position."""
        return self._opened()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> None:
        """Go to a position relative to the beginning, the current position or the end."""
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self._opened(), os.SEEK_END: len(self)}
        if whence not in bases:
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        at = bases[whence] + offset
        if at < 0:
            raise io.UnsupportedOperation(f"negative position: {at}")
        self._position.at = at

    def __deepcopy__(self, memo: dict[int, Any]) -> PersistentStream:
        """Return the object itself."""
        return self


PersistentStream.__module__ = "dobbin.database"
