"""Streams that are stored."""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dobbin.database import Database


class _Position(threading.local):
    at: int | None = None  # None while it is closed


class PersistentStream:
    """A stream of bytes in a database.

    Iterate over it to read it in blocks; or open it, and read and seek. Each thread opens
    it for itself.
    """

    def __init__(self, database: Database, oid: int) -> None:
        self._database = database
        self.oid = oid
        self._position = _Position()

    def belongs_to(self, database: Database) -> bool:
        """Whether it is stored there."""
        return self._database is database

    def __len__(self) -> int:
        length: int = self._log().stream_length(self.oid)
        return length

    def __bool__(self) -> bool:
        return True

    def _log(self) -> Any:
        return self._database._log

    def blocks(self, _size: int = 0) -> Iterator[bytes]:
        """Yield all bytes, in blocks as they are stored."""
        at = 0
        while data := self._log().stream_bytes(self.oid, at):
            at += len(data)
            yield data

    def __iter__(self) -> Iterator[bytes]:
        return self.blocks()

    @property
    def closed(self) -> bool:
        """Whether this thread has it closed."""
        return self._position.at is None

    def open(self) -> None:
        """Open it at its beginning."""
        self._position.at = 0

    def close(self) -> None:
        """Close it."""
        self._position.at = None

    def _opened(self) -> int:
        at = self._position.at
        if at is None:
            raise ValueError("I/O operation on a closed stream; call open() first")
        return at

    def read(self, size: int | None = -1) -> bytes:
        """Return so many bytes, or the rest."""
        at = self._opened()
        rest = max(len(self) - at, 0)
        wanted = rest if size is None or size < 0 else min(size, rest)
        parts = []
        while wanted > 0:
            data: bytes = self._log().stream_bytes(self.oid, at)[:wanted]
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
        """Go to a position, from the beginning, from here, or from the end."""
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
