"""Streams that are to be stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class PersistentFile:
    """A stream of bytes or text to be stored, from its position to its end.

    Text is stored as UTF-8. It is for one use: when it is committed it becomes a
    `dobbin.database.PersistentStream`. The caller closes the stream.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._start: int | None = None

    def blocks(self, size: int) -> Iterator[bytes]:
        """Yield the bytes in blocks; what was read for a failed commit is read again."""
        if self._start is not None:
            self._stream.seek(self._start)
        elif (seekable := getattr(self._stream, "seekable", None)) and seekable():
            self._start = self._stream.tell()
        while data := self._stream.read(size):
            yield data.encode() if isinstance(data, str) else bytes(data)

    def __deepcopy__(self, memo: dict[int, Any]) -> PersistentFile:
        """Return the object itself."""
        return self


PersistentFile.__module__ = "dobbin.persistent"
