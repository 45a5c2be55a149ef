"""Short ways to commit to a storage and to read from it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ZODB.Connection import TransactionMetaData
from ZODB.POSException import POSKeyError
from ZODB.utils import z64

if TYPE_CHECKING:
    from collections.abc import Mapping


def commit(storage: Any, records: Mapping[bytes, bytes], description: str = "") -> bytes:
    """Commit new data of objects; return the transaction's id."""
    transaction = TransactionMetaData(description=description)
    storage.tpc_begin(transaction)
    store(storage, records, transaction)
    storage.tpc_vote(transaction)
    tid: bytes = storage.tpc_finish(transaction)
    return tid


def store(storage: Any, records: Mapping[bytes, bytes], transaction: Any) -> None:
    """Store new data of objects whose current ones are known."""
    for oid, data in records.items():
        storage.store(oid, current(storage, oid), data, "", transaction)


def data_before(storage: Any, oid: bytes, tid: bytes) -> bytes | None:
    """Return an object's data before a transaction."""
    found = storage.loadBefore(oid, tid)
    data: bytes | None = found and found[0]
    return data


def current(storage: Any, oid: bytes) -> bytes:
    """Return the last transaction that wrote an object, or zeros."""
    tid: bytes = z64
    with suppress(POSKeyError):
        tid = storage.getTid(oid)
    return tid
