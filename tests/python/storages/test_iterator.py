"""`FileStorageIterator`: following a file storage's transactions."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import transaction
import ZODB
import ZODB.FileStorage
import ZODB.MappingStorage
from ZODB.serialize import referencesf
from ZODB.utils import z64

from zc.zrs.primary import FileStorageIterator, ScanControl, TidTooHigh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from zc.zrs.iterator import TransactionRecord

TIMEOUT = 10


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[Any]:
    storage = ZODB.FileStorage.FileStorage(str(tmp_path / "Data.fs"))
    yield storage
    storage.close()


@pytest.fixture
def root(fs: Any) -> Any:
    manager = transaction.TransactionManager()
    db = ZODB.DB(fs)
    connection = db.open(manager)
    return connection.root()


def commit(root: Any, **values: Any) -> None:
    root.update(values)
    current = root._p_jar.transaction_manager.get()
    current.setUser("somebody")
    current.note("something")
    current.setExtendedInfo("colour", "blue")
    current.commit()


def rest(iterator: FileStorageIterator) -> list[TransactionRecord]:
    iterator.catch_up_then_stop()
    return list(iterator)


def dump(transactions: Iterable[Any]) -> list[tuple[Any, ...]]:
    return [
        (t.tid, t.status, t.user, t.description, t.extension_bytes, t.extension, records(t))
        for t in transactions
    ]


def records(transaction_record: Iterable[Any]) -> list[tuple[Any, ...]]:
    return [(r.oid, r.tid, r.data, r.version, r.data_txn) for r in transaction_record]


def test_it_yields_what_zodb_yields(fs: Any, root: Any) -> None:
    commit(root, x=1)
    commit(root, x=2)
    fs_db = root._p_jar.db()
    fs_db.undo(fs.undoLog()[0]["id"])
    transaction.commit()
    ours = dump(rest(FileStorageIterator(fs)))
    assert ours == dump(fs.iterator())
    assert len(ours) == 4


def test_records_come_from_next_too_and_come_once(fs: Any, root: Any) -> None:
    commit(root, x=1)
    first = FileStorageIterator(fs).next()
    assert first.next().oid == z64
    assert list(first) == []


def test_it_starts_after_a_transaction(fs: Any, root: Any) -> None:
    commit(root, x=1)
    start = fs.lastTransaction()
    assert rest(FileStorageIterator(fs, start=start)) == []
    commit(root, x=2)
    assert [t.tid for t in rest(FileStorageIterator(fs, start=start))] == [fs.lastTransaction()]


def test_a_start_after_the_last_transaction_is_refused(fs: Any, root: Any) -> None:
    commit(root, x=1)
    with pytest.raises(TidTooHigh) as caught:
        FileStorageIterator(fs, start=b"\x7f" * 8)
    assert caught.value.args == (repr(b"\x7f" * 8),)


def in_thread(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Start a thread; return it, and the list that receives the function's result."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(function())
        except StopIteration:
            results.append(StopIteration)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, results


def test_next_waits_for_a_notification(fs: Any, root: Any) -> None:
    condition = threading.Condition()
    iterator = FileStorageIterator(fs, condition)
    assert next(iterator).tid == fs.lastTransaction()
    thread, results = in_thread(iterator.next)
    thread.join(0.1)
    assert thread.is_alive()
    commit(root, x=1)
    iterator.notify()
    thread.join(TIMEOUT)
    assert [t.tid for t in results] == [fs.lastTransaction()]


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("end", ["stop", "catch_up_then_stop"])
def test_a_waiting_next_can_be_ended(fs: Any, end: str) -> None:
    iterator = FileStorageIterator(fs, start=fs.lastTransaction())
    thread, results = in_thread(iterator.next)
    thread.join(0.1)
    assert thread.is_alive()
    getattr(iterator, end)()
    thread.join(TIMEOUT)
    assert results == [StopIteration]


def test_stop_ends_it_before_the_last_transaction(fs: Any, root: Any) -> None:
    commit(root, x=1)
    iterator = FileStorageIterator(fs)
    iterator.next()
    iterator.stop()
    assert list(iterator) == []


@pytest.mark.usefixtures("root")
def test_a_scan_control_ends_it(fs: Any) -> None:
    control = ScanControl()
    assert control.not_stopped
    iterator = FileStorageIterator(fs, None, z64, control)
    control.not_stopped = False
    assert list(iterator) == []


def test_a_transaction_is_not_seen_before_it_is_finished(fs: Any, root: Any) -> None:
    commit(root, x=1)
    last = fs.lastTransaction()
    root["x"] = 2
    current = root._p_jar.transaction_manager.get()

    metadata = ZODB.Connection.TransactionMetaData()
    current.abort()
    fs.tpc_begin(metadata)
    fs.store(z64, last, b"data", "", metadata)
    fs.tpc_vote(metadata)
    assert rest(FileStorageIterator(fs, start=last)) == []
    fs.tpc_finish(metadata)
    assert [t.tid for t in rest(FileStorageIterator(fs, start=last))] == [fs.lastTransaction()]


def test_it_goes_on_after_a_pack(fs: Any, root: Any) -> None:
    commit(root, x=1)
    iterator = FileStorageIterator(fs, start=fs.lastTransaction())
    commit(root, x=2)
    fs.pack(ZODB.TimeStamp.TimeStamp(fs.lastTransaction()).timeTime(), referencesf)
    commit(root, x=3)
    found = rest(iterator)
    assert found[-1].tid == fs.lastTransaction()
    (record,) = found[-1]
    assert record.data == fs.load(z64)[0]


def test_a_storage_without_a_file_is_refused() -> None:
    with pytest.raises(TypeError, match="not a file storage"):
        FileStorageIterator(ZODB.MappingStorage.MappingStorage())


class OldCondition:
    """A condition with the names of Python 2, which is not a context manager."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.acquire = self._condition.acquire
        self.release = self._condition.release
        self.wait = self._condition.wait
        self.notifyAll = self._condition.notify_all


def test_any_object_with_the_methods_of_a_condition_is_accepted(fs: Any, root: Any) -> None:
    found = FileStorageIterator(fs, OldCondition())
    first = next(found)
    assert first.tid == fs.lastTransaction()
    got: list[Any] = []
    waiting = threading.Thread(target=lambda: got.extend(found))
    waiting.start()
    root["x"] = 1
    root._p_jar.transaction_manager.commit()
    found.notify()
    found.catch_up_then_stop()
    waiting.join(TIMEOUT)
    assert [transaction.tid for transaction in got] == [fs.lastTransaction()]
