"""Iterating over the transactions of a file storage as they are committed."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import ZODB.BaseStorage
from ZODB.utils import z64

from zc.zrs import _zrs


class ScanControl:
    """Stops an iteration from outside: set `not_stopped` to False."""

    not_stopped = True


class TransactionRecord(ZODB.BaseStorage.TransactionRecord):  # type: ignore[misc]
    """A transaction: its header, and an iterator over its data records.

    It is its own iterator, so its records can be read once.
    """

    def __init__(self, record: _zrs.TransactionRecord) -> None:
        super().__init__(
            record.tid,
            record.status,
            record.user,
            record.description,
            record.extension_bytes,
        )
        self._records = iter(record)

    def __iter__(self) -> Iterator[ZODB.BaseStorage.DataRecord]:
        return self

    def __next__(self) -> ZODB.BaseStorage.DataRecord:
        record = next(self._records)
        return ZODB.BaseStorage.DataRecord(record.oid, record.tid, record.data, record.data_txn)

    next = __next__


class FileStorageIterator:
    """Iterates over a file storage's transactions later than `start`.

    At the end it waits on `condition` for further commits: call `notify` after a commit.
    `condition` can be any object with the methods `acquire`, `release`, `wait` and `notify_all`
    or `notifyAll` of a condition. The iterator has its own file handle and survives packs.

    Raises `zc.zrs.primary.TidTooHigh` if `start` is later than the last transaction.
    """

    def __init__(
        self,
        fs: Any,
        condition: Any = None,
        start: bytes = z64,
        scan_control: ScanControl | None = None,
    ) -> None:
        self._last_transaction = fs.lastTransaction
        self._condition: Any = threading.Condition() if condition is None else condition
        # Objects with the methods of Python 2's threading.Condition are accepted.
        self._notify_all: Callable[[], object] = (
            getattr(self._condition, "notify_all", None) or self._condition.notifyAll
        )
        self._scan_control = ScanControl() if scan_control is None else scan_control
        self._reader = _zrs.TransactionReader(data_path(fs), start, fs.getSize())
        # Read, but not finished at the last check.
        self._pending: _zrs.TransactionRecord | None = None
        self._stopped = False
        self._stops_at_the_end = False

    def __iter__(self) -> Iterator[TransactionRecord]:
        return self

    def __next__(self) -> TransactionRecord:
        with self._locked():
            while not self._stopped and self._scan_control.not_stopped:
                record = self._finished()
                if record is not None:
                    return TransactionRecord(record)
                if self._stops_at_the_end:
                    break
                self._condition.wait()
        raise StopIteration

    next = __next__

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._condition.acquire()
        try:
            yield
        finally:
            self._condition.release()

    def _finished(self) -> _zrs.TransactionRecord | None:
        """Return the next transaction if its `tpc_finish` has ended."""
        if self._pending is None:
            self._pending = self._reader.next()
        record = self._pending
        if record is None or record.tid > self._last_transaction():
            return None
        self._pending = None
        return record

    def notify(self) -> None:
        """Make a waiting `next` check for new transactions."""
        with self._locked():
            self._notify_all()

    def stop(self) -> None:
        """Stop the iteration."""
        with self._locked():
            self._stopped = True
            self._notify_all()

    def catch_up_then_stop(self) -> None:
        """Stop the iteration after the last existing transaction."""
        with self._locked():
            self._stops_at_the_end = True
            self._notify_all()


def data_path(storage: Any) -> str:
    """Return the absolute path of the storage's Data.fs.

    Raises `TypeError` if the storage does not keep its data in such a file.
    """
    path = getattr(storage, "_file_name", None)
    if not isinstance(path, str):
        raise TypeError(
            f"{type(storage).__module__}.{type(storage).__qualname__} is not a file storage:"
            " it has no Data.fs to replicate from"
        )
    return path
