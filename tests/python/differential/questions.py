"""All queries of a storage that do not change it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ZODB.utils import maxtid, p64, u64, z64

from differential.pair import Pair, Raised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from differential.pair import Side

# The data of records by transaction and object, each once, the last one last.
RecordData = dict[tuple[bytes, bytes], dict["bytes | None", None]]
Question = tuple[str, tuple[Any, ...]]


def transactions(storage: Any, start: bytes | None = None, stop: bytes | None = None) -> Any:
    """Return everything that an iterator of the storage yields."""
    return [
        (
            found.tid,
            found.status,
            found.user,
            found.description,
            found.extension,
            found.extension_bytes,
            [
                (record.oid, record.tid, record.version, record.data, record.data_txn)
                for record in found
            ],
        )
        for found in storage.iterator(start, stop)
    ]


def record_data(storage: Any) -> RecordData:
    """Return the data of all records; a transaction may have several records of an object."""
    found: RecordData = {}
    for transaction in storage.iterator():
        for record in transaction:
            data = found.setdefault((transaction.tid, record.oid), {})
            data.pop(record.data, None)
            data[record.data] = None
    return found


def transactions_of(side: Side, start: bytes | None, stop: bytes | None) -> Any:
    """Return everything that an iterator of a side's storage yields."""
    return transactions(side.storage, start, stop)


def current_records(storage: Any) -> Any:
    """Return the results of `record_iternext` from the first object to the last."""
    found, next_oid = [], None
    while True:
        oid, tid, data, next_oid = storage.record_iternext(next_oid)
        found.append((oid, tid, data))
        if next_oid is None:
            return found


def about_transactions() -> Iterator[Question]:
    """Yield calls of methods for the last transactions or all objects."""
    yield "lastTransaction", ()
    yield "getSize", ()
    for count in 0, 1, 3, 100:
        yield "lastInvalidations", (count,)
    for bounds in (), (0, -1), (1, 3), (2, -2), (0, 1000):
        yield "undoLog", bounds
    yield "undoInfo", (0, -100, {"user_name": b"user"})
    yield "undoLog", (0, -3, names_user)
    for name in "isReadOnly", "supportsUndo", "getExtensionMethods", "tpc_transaction":
        yield name, ()


def names_user(description: dict[str, Any]) -> bool:
    """Return whether a description of a transaction or a revision names the user."""
    return bool(description["user_name"] == b"user")


def about_objects(oids: list[bytes], tids: list[bytes]) -> Iterator[Question]:
    """Yield calls of methods for these objects and the moments around these tids."""
    around = sorted({p64(u64(tid) + step) for tid in tids for step in (0, 1)} | {maxtid})
    yield "__len__", ()
    for oid in oids:
        yield "load", (oid, "")
        yield "getTid", (oid,)
        yield "history", (oid,)
        yield "history", (oid, 100)
        yield "history", (oid, 2, names_user)
        yield "lastTid", (oid,)
        yield "record_iternext", (oid,)
        for tid in around:
            yield "loadBefore", (oid, tid)
        for tid in (*tids, z64):
            yield "loadSerial", (oid, tid)


def ask_about_objects(pair: Pair, oids: list[bytes], tids: list[bytes]) -> None:
    """Query both storages about objects, and fail if the results differ."""
    for name, arguments in about_objects(oids, tids):
        pair.do(calling(name, arguments))
    pair.do(lambda side: current_records(side.storage))


def blob_of(side: Side, oid: bytes, tid: bytes) -> bytes:
    """Return the content of a blob, read in each possible way."""
    path = side.storage.loadBlob(oid, tid)
    with side.storage.openCommittedBlobFile(oid, tid) as file:
        content: bytes = file.read()
    assert Path(path).read_bytes() == content
    return content


def ask_all(pair: Pair, oids: list[bytes], tids: list[bytes]) -> None:
    """Run all queries on both storages, and fail if the results differ."""
    ask_about_objects(pair, oids, tids)
    for name, arguments in about_transactions():
        pair.do(calling(name, arguments))
    if pair.ours.storage.blob_dir:
        for oid in oids:
            for tid in tids:
                pair.do(partial(blob_of, oid=oid, tid=tid))
    for start in (None, *tids[:1], *tids[-2:-1]):
        for stop in (None, *tids[1:2]):
            pair.do(partial(transactions_of, start=start, stop=stop))


def calling(name: str, arguments: tuple[Any, ...]) -> Callable[[Side], Any]:
    """Return a function that calls a method of a side's storage."""
    return lambda side: getattr(side.storage, name)(*arguments)


def known_tids(pair: Pair) -> list[bytes]:
    """Return the transactions in the file, oldest first."""
    tids = pair.do(lambda side: [found.tid for found in side.storage.iterator()])
    return [] if isinstance(tids, Raised) else tids


def findable_tids(pair: Pair) -> list[bytes]:
    """Return the transactions that both storages can find, oldest first.

    ZODB does not find one without records at the beginning of its file.
    """
    found = transactions(pair.theirs.storage)
    return [tid for number, (tid, *_, records) in enumerate(found) if number or records]
