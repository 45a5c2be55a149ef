"""Ways to damage a file, one for each kind of problem that a check can find."""

from __future__ import annotations

from collections.abc import Callable

from damage.layout import (
    DATA_LENGTH_AT,
    LENGTH_AT,
    POSITION,
    PREV_AT,
    STATUS_AT,
    TID_AT,
    TLOC_AT,
    VERSION_AT,
    Record,
    Transaction,
    transactions,
)

Damage = Callable[[bytearray], int]
"""Breaks the bytes of a file, and returns the position of what is wrong then."""

# In the database of `damage.database`, counted from the initial transaction.
MIDDLE, UNDO, LAST = 2, 4, -1


def _put(data: bytearray, position: int, number: int) -> None:
    data[position : position + POSITION.size] = POSITION.pack(number)


def _transaction(data: bytearray, number: int = MIDDLE) -> Transaction:
    return transactions(data)[number]


def _backpointer(data: bytearray) -> Record:
    """Return a data record with a backpointer."""
    return next(record for record in _transaction(data, UNDO).records if record.back)


def status(data: bytearray) -> int:
    position = _transaction(data).position
    data[position + STATUS_AT] = ord("x")
    return position


def unfinished(data: bytearray) -> int:
    position = _transaction(data, LAST).position
    data[position + STATUS_AT] = ord("c")
    return position


def transaction_length(data: bytearray) -> int:
    """Damage both lengths, so that the next transaction must be searched for."""
    transaction = _transaction(data)
    _put(data, transaction.position + LENGTH_AT, 5)
    _put(data, transaction.redundant_at, 7)
    return transaction.position


def header_length(data: bytearray) -> int:
    """Damage only the length in the header."""
    position = _transaction(data).position
    _put(data, position + LENGTH_AT, 5)
    return position


def beyond_end(data: bytearray) -> int:
    del data[-20:]
    original = [*_positions(data)]
    return original[-1]


def _positions(data: bytearray) -> list[int]:
    """Return the start positions of transactions in a truncated file."""
    found, position = [], 4
    while position < len(data):
        found.append(position)
        position += POSITION.unpack_from(data, position + LENGTH_AT)[0] + POSITION.size
    return found


def redundant_length(data: bytearray) -> int:
    transaction = _transaction(data)
    _put(data, transaction.redundant_at, transaction.length + 1)
    return transaction.position


def tid_order(data: bytearray) -> int:
    """Give a transaction and all of its records the id of the preceding transaction."""
    before, transaction = transactions(data)[1:3]
    data[transaction.position : transaction.position + 8] = before.tid
    for record in transaction.records:
        at = record.position + TID_AT
        data[at : at + 8] = before.tid
    return transaction.position


def transaction_tid(data: bytearray) -> int:
    position = _transaction(data).position
    data[position] = 0xFF
    return position


def record_tid(data: bytearray) -> int:
    position = _transaction(data).records[0].position
    data[position + TID_AT] ^= 0x80
    return position


def tloc(data: bytearray) -> int:
    position = _transaction(data).records[0].position
    _put(data, position + TLOC_AT, 5)
    return position


def previous(data: bytearray) -> int:
    position = _transaction(data).records[0].position
    _put(data, position + PREV_AT, 5)
    return position


def version(data: bytearray) -> int:
    position = _transaction(data).records[0].position
    data[position + VERSION_AT + 1] = 3
    return position


def record_too_short(data: bytearray) -> int:
    """Append bytes to the last record of a transaction."""
    transaction = _transaction(data, LAST)
    extra = b"too short!"
    data[transaction.redundant_at : transaction.redundant_at] = extra
    _put(data, transaction.position + LENGTH_AT, transaction.length + len(extra))
    _put(data, transaction.redundant_at + len(extra), transaction.length + len(extra))
    return transaction.redundant_at


def record_too_long(data: bytearray) -> int:
    position = _transaction(data).records[0].position
    _put(data, position + DATA_LENGTH_AT, 1 << 40)
    return position


def no_record(data: bytearray) -> int:
    """Make a record one byte shorter."""
    first, second = _transaction(data, LAST).records
    _put(data, first.position + DATA_LENGTH_AT, first.length - 1)
    return second.position - 1


def backpointer(data: bytearray) -> int:
    record = _backpointer(data)
    _put(data, record.content, record.position + 1)
    return record.position


def backpointer_target(data: bytearray) -> int:
    record = _backpointer(data)
    assert record.back
    _put(data, record.content, record.back + 1)
    return record.position


def backpointer_oid(data: bytearray) -> int:
    record = _backpointer(data)
    others = (r for t in transactions(data)[:UNDO] for r in t.records if r.oid != record.oid)
    _put(data, record.content, next(others).position)
    return record.position


def fragment(data: bytearray) -> int:
    data += b"tail"
    return len(data) - 4


def pickle(data: bytearray) -> int:
    """Damage the data of an object's current record."""
    record = _transaction(data, LAST).records[0]
    data[record.content : record.content + record.length] = b"\xff" * record.length
    return record.position


DAMAGES: list[tuple[str, Damage]] = [
    ("status", status),
    ("unfinished", unfinished),
    ("transaction-length", transaction_length),
    ("transaction-length", header_length),
    ("beyond-end", beyond_end),
    ("redundant-length", redundant_length),
    ("tid-order", tid_order),
    ("transaction-tid", transaction_tid),
    ("record-tid", record_tid),
    ("tloc", tloc),
    ("previous", previous),
    ("version", version),
    ("record-too-short", record_too_short),
    ("record-too-long", record_too_long),
    ("no-record", no_record),
    ("backpointer", backpointer),
    ("backpointer-target", backpointer_target),
    ("backpointer-oid", backpointer_oid),
    ("fragment", fragment),
    ("pickle", pickle),
]
"""Each kind of problem in a file's own bytes, and what brings it about."""

IN_THE_LAST = {unfinished, beyond_end, record_too_short, no_record, fragment, pickle}
"""Those that concern the end of the file, the last transaction included."""
