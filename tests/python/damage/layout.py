"""The positions of transactions and data records in a good Data.fs.

It shares no code with the product, so comparisons are meaningful.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

TRANSACTION = struct.Struct(">8sQcHHH")
RECORD = struct.Struct(">8s8sQQHQ")
POSITION = struct.Struct(">Q")

# Offsets of the fields in a transaction header, and in a data record header.
LENGTH_AT, STATUS_AT = 8, 16
TID_AT, PREV_AT, TLOC_AT, VERSION_AT, DATA_LENGTH_AT = 8, 16, 24, 32, 34


@dataclass(frozen=True)
class Record:
    """A data record."""

    position: int
    oid: bytes
    tid: bytes
    length: int
    back: int | None

    @property
    def content(self) -> int:
        """Position of the data or the backpointer."""
        return self.position + RECORD.size


@dataclass(frozen=True)
class Transaction:
    """A transaction record; its length is the one in its header."""

    position: int
    tid: bytes
    length: int
    status: bytes
    records: list[Record] = field(default_factory=list)

    @property
    def redundant_at(self) -> int:
        """Position of the redundant length."""
        return self.position + self.length

    @property
    def end(self) -> int:
        """Position of the next transaction."""
        return self.redundant_at + POSITION.size


def transactions(data: bytes | bytearray) -> list[Transaction]:
    """Return the transactions of a good file."""
    found = []
    position = 4
    while position < len(data):
        tid, length, status, user, description, extension = TRANSACTION.unpack_from(
            data, position
        )
        transaction = Transaction(position, tid, length, status)
        at = position + TRANSACTION.size + user + description + extension
        while at < transaction.redundant_at:
            oid, record_tid, _, tloc, version, size = RECORD.unpack_from(data, at)
            assert (record_tid, tloc, version) == (tid, position, 0)
            content = at + RECORD.size
            back = None if size else POSITION.unpack_from(data, content)[0]
            transaction.records.append(Record(at, oid, tid, size, back))
            at = content + (size or POSITION.size)
        assert at == transaction.redundant_at
        assert POSITION.unpack_from(data, at)[0] == length
        found.append(transaction)
        position = transaction.end
    return found
