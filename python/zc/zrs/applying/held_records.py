"""Records of a transaction, kept in files until the stream's digest has been checked.

Some calls of a storage take effect immediately: `restoreBlob` moves a file to its place.
Records received before the digest are therefore kept here, in a temporary directory, so that
memory use does not depend on how much a primary sends.
"""

import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

_HEADER = struct.Struct(">8s8s8sqB")
_HAS_DATA_TXN, _HAS_BLOB = 1, 2
_NO_DATA = -1

HeldRecord = tuple[bytes, bytes, bytes | None, bytes | None, str | None]
"""Oid, tid, data, the tid of an earlier record with the same data, and the blob's file."""


class HeldRecords:
    """Records in the order in which they were added, with the files of their blobs.

    :param directory: parent of the temporary directory; blobs are moved into it, so it must be
        on their file system
    """

    def __init__(self, directory: str) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="held-", dir=directory))
        self._records = (self._directory / "records").open("w+b")
        self._count = 0

    def add(
        self,
        oid: bytes,
        tid: bytes,
        data: bytes | None,
        data_txn: bytes | None,
        blob: str | None = None,
    ) -> None:
        """Add a record; `blob` is the path of its file, which is moved."""
        flags = (data_txn is not None) * _HAS_DATA_TXN + (blob is not None) * _HAS_BLOB
        length = _NO_DATA if data is None else len(data)
        self._records.write(_HEADER.pack(oid, tid, data_txn or b"", length, flags))
        self._records.write(data or b"")
        if blob is not None:
            Path(blob).rename(self._blob(self._count))
        self._count += 1

    def __iter__(self) -> Iterator[HeldRecord]:
        """Yield the records; the caller may move the blobs' files."""
        self._records.seek(0)
        for number in range(self._count):
            oid, tid, data_txn, length, flags = _HEADER.unpack(self._records.read(_HEADER.size))
            data = None if length == _NO_DATA else self._records.read(length)
            blob = str(self._blob(number)) if flags & _HAS_BLOB else None
            yield oid, tid, data, data_txn if flags & _HAS_DATA_TXN else None, blob

    def discard(self) -> None:
        """Remove the remaining files."""
        self._records.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _blob(self, number: int) -> Path:
        return self._directory / f"{number}.blob"
