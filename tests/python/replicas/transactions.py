"""Committing transactions, and reading them with ZODB's own code for comparison."""

from __future__ import annotations

import binascii
from pathlib import Path
from typing import Any, NamedTuple

from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileIterator
from ZODB.utils import p64


class Record(NamedTuple):
    """The contents of a data record."""

    oid: bytes
    tid: bytes
    data: bytes | None
    data_txn: bytes | None


class Transaction(NamedTuple):
    """The contents of a transaction record."""

    tid: bytes
    status: str
    user: bytes
    description: bytes
    extension: bytes
    records: tuple[Record, ...]
    end: int


def read_transactions(path: Path | str) -> list[Transaction]:
    """Return the transactions that ZODB reads from a Data.fs; a missing file has none."""
    if not Path(path).exists():
        return []
    iterator = FileIterator(str(path))
    try:
        return [
            Transaction(
                found.tid,
                found.status,
                found.user,
                found.description,
                found.extension_bytes,
                tuple(Record(r.oid, r.tid, r.data, r.data_txn) for r in found),
                found._tend + 8,  # the redundant length
            )
            for found in iterator
        ]
    finally:
        iterator.close()


def current_records(transactions: list[Transaction]) -> dict[bytes, tuple[bytes, bytes | None]]:
    """Return the tid and data of each object's last record."""
    return {
        record.oid: (record.tid, record.data)
        for transaction in transactions
        for record in transaction.records
    }


def commit(  # noqa: PLR0913 -- whatever a transaction may have
    storage: Any,
    objects: dict[int, bytes] | None = None,
    *,
    user: str = "",
    description: str = "",
    extension: dict[str, Any] | None = None,
    finished: Any = None,
    tid: bytes | None = None,
) -> bytes:
    """Commit data of objects, overwriting existing ones; return the transaction's id."""
    transaction = TransactionMetaData(user, description, extension)
    storage.tpc_begin(transaction, tid)
    for number, data in (objects or {}).items():
        storage.store(p64(number), serial_of(storage, p64(number)), data, "", transaction)
    storage.tpc_vote(transaction)
    finished_tid: bytes = storage.tpc_finish(transaction, finished)
    return finished_tid


def undo(storage: Any, tid: bytes) -> bytes:
    """Undo a transaction; return the id of the undo."""
    transaction = TransactionMetaData("", "undo")
    storage.tpc_begin(transaction)
    try:
        storage.undo(binascii.b2a_base64(tid), transaction)
        storage.tpc_vote(transaction)
    except BaseException:
        storage.tpc_abort(transaction)
        raise
    undone: bytes = storage.tpc_finish(transaction)
    return undone


def delete(storage: Any, number: int) -> bytes:
    """Delete an object, as external garbage collection does; return the transaction's id."""
    transaction = TransactionMetaData("", "delete")
    storage.tpc_begin(transaction)
    storage.deleteObject(p64(number), serial_of(storage, p64(number)), transaction)
    storage.tpc_vote(transaction)
    tid: bytes = storage.tpc_finish(transaction)
    return tid


def serial_of(storage: Any, oid: bytes) -> bytes:
    """Return the id of the last transaction that wrote an object, or zeros."""
    try:
        serial: bytes = storage.getTid(oid)
    except KeyError:
        return serial_of_deleted(storage, oid)
    return serial


def serial_of_deleted(storage: Any, oid: bytes) -> bytes:
    """Return the tid of a deleted object's last record; must not run during a pack."""
    try:
        position = storage._lookup_pos(oid)
    except KeyError:
        return bytes(8)
    header: Any = storage._read_data_header(position, oid)
    serial: bytes = header.tid
    return serial
