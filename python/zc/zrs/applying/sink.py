"""Applies a secondary's transactions to a storage, and notifies the databases that use it."""

import contextlib
import os
import tempfile
import threading
from pathlib import Path
from typing import Any, BinaryIO

from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage.FileStorage import FileStorage
from ZODB.interfaces import IBlobStorageRestoreable
from ZODB.utils import z64

import zc.zrs.filestorage
from zc.zrs import _zrs
from zc.zrs.applying.direct import list_place
from zc.zrs.applying.held_records import HeldRecords
from zc.zrs.iterator import data_path
from zc.zrs.storages.wrapper import unwrapped
from zc.zrs.storages.zeo_database import database_adapter

MAX_RECORDS = 1 << 22
"""Maximum number of records of a transaction for a storage that keeps them in memory."""


class TooManyRecordsError(Exception):
    """A transaction has more than `MAX_RECORDS` records."""


class InvalidationError(Exception):
    """A registered database raised an exception when it was notified of a transaction."""


class StorageSink:
    """Applies replicated transactions to a storage; a `_zrs.Sink`.

    One thread at a time calls its methods, except `register`, which any thread can call.

    The native code applies transactions to a `zc.zrs.filestorage.FileStorage` itself. It then
    calls only `announce` and the methods for blobs.
    """

    def __init__(self, storage: Any, direct: _zrs.DirectTarget | None = None) -> None:
        self._storage = storage
        self.direct = direct
        """The target of the native code, None if it must not bypass the storage."""
        self._transaction: Any = None
        self._oids: list[bytes] = []
        self._blob_file: BinaryIO | None = None
        self._blob_path: str | None = None
        self._held: HeldRecords | None = None
        """The records of the current transaction from the first blob on."""
        self._databases: list[Any] = []
        # Held while a transaction is finished, so that each database is notified of every
        # transaction after its registration. Taken before the storage's own locks.
        self._finishing = threading.RLock()
        self._forget_lost_tail()

    def _forget_lost_tail(self) -> None:
        """Make ZODB's storage report the last transaction that its file contains.

        When ZODB truncates an incomplete transaction at the end of a file, it still reports
        that transaction as the last one. The secondary would then never request it from the
        primary.
        """
        storage = unwrapped(self._storage)
        if isinstance(storage, FileStorage) and (file := self.data_file()) is not None:
            path, size = file
            storage._ltid = _zrs.last_in_file(path, self.last_transaction(), size)  # noqa: SLF001

    def register(self, database: Any) -> None:
        """Notify a database, from now on, of the objects that each transaction changes.

        The database is an `IStorageWrapper`.
        """
        database = database_adapter(database)

        def register() -> None:
            database.catch_up(self._storage)
            self._databases.append(database)

        if self.direct is not None:
            self.direct.register(register)
            return
        with self._finishing:
            register()

    def last_transaction(self) -> bytes:
        """Return the storage's last transaction id, zeros for an empty storage."""
        tid: bytes = self._storage.lastTransaction() or z64
        return tid

    def data_file(self) -> tuple[str, int] | None:
        """Return the path and the size of the storage's Data.fs.

        None without one, or if the file may contain the records in another form than received.
        """
        storage = unwrapped(self._storage)
        if not isinstance(storage, FileStorage | zc.zrs.filestorage.FileStorage):
            return None
        return data_path(storage), storage.getSize()

    def list_place(self) -> tuple[_zrs.FileStorageBase | str, _zrs.Feed | None] | None:
        """Return the Data.fs to which the list of dropped transactions belongs, or None."""
        return list_place(self._storage)

    def begin(
        self, tid: bytes, status: str, user: bytes, description: bytes, extension: bytes
    ) -> None:
        """Begin the transaction `tid`; `extension` is a pickle, which is not loaded."""
        transaction = TransactionMetaData(user, description, extension)
        self._storage.tpc_begin(transaction, tid, status)
        self._transaction = transaction
        self._oids = []

    def restore(
        self, oid: bytes, tid: bytes, data: bytes | None, data_txn: bytes | None
    ) -> None:
        """Write a record of the current transaction."""
        if self._held is not None:
            self._held.add(oid, tid, data, data_txn)
            return
        self._restore(oid, tid, data, data_txn)

    def _restore(
        self, oid: bytes, tid: bytes, data: bytes | None, data_txn: bytes | None
    ) -> None:
        if len(self._oids) >= MAX_RECORDS:
            # Storages written in Python keep all records in memory; the native one does not.
            raise TooManyRecordsError(
                f"transaction 0x{tid.hex()} has more than {MAX_RECORDS} records, the"
                " maximum for"
                f" {type(self._storage).__module__}.{type(self._storage).__qualname__};"
                " zc.zrs.filestorage.FileStorage has no such limit"
            )
        self._storage.restore(oid, tid, data, "", data_txn, self._transaction)
        self._oids.append(oid)

    def stores_blobs(self) -> bool:
        """Return whether blobs can be restored."""
        restorable: bool = IBlobStorageRestoreable.providedBy(self._storage)
        return restorable

    def begin_blob(self) -> None:
        """Create a temporary file for a blob on the storage's file system."""
        handle, self._blob_path = tempfile.mkstemp(
            suffix=".blob", dir=self._storage.temporaryDirectory()
        )
        self._blob_file = os.fdopen(handle, "wb")

    def write_block(self, block: bytes) -> None:
        """Append to the current blob."""
        if self._blob_file is None:
            raise RuntimeError("a block without a blob")
        self._blob_file.write(block)

    def restore_blob(
        self, oid: bytes, tid: bytes, data: bytes | None, data_txn: bytes | None
    ) -> None:
        """Keep a record, with the current blob, to be written when the transaction ends.

        `restoreBlob` replaces a committed file of that object and transaction, and aborting
        removes it. Later records are written after it, in their order.
        """
        self._hold().add(oid, tid, data, data_txn, self._end_blob(keep=True))

    def hold_blob(self, oid: bytes, tid: bytes) -> None:
        """Keep the current blob until the transaction ends; the caller writes the record."""
        self._hold().add(oid, tid, None, None, self._end_blob(keep=True))

    def _hold(self) -> HeldRecords:
        if self._held is None:
            self._held = HeldRecords(self._storage.temporaryDirectory())
        return self._held

    def place_blobs(self) -> None:
        """Move the held blobs to their places."""
        held = self._held
        if held is not None:
            for oid, tid, _, _, path in held:
                self._storage._blob_storeblob(oid, tid, path)  # noqa: SLF001
            self._forget_held()

    def _forget_held(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.discard()

    def keep_blobs(self) -> None:
        """Keep the blobs placed since the last call, even after an abort."""
        self._storage._blob_tpc_finish()  # noqa: SLF001

    def drop_blobs(self) -> None:
        """Remove the current blob, the held ones, and those placed since `keep_blobs`."""
        self._end_blob(keep=False)
        self._forget_held()
        self._storage._blob_tpc_abort()  # noqa: SLF001

    def _end_blob(self, *, keep: bool) -> str | None:
        """Close the current blob, if any; return its path. Without `keep` it is removed."""
        file, path = self._blob_file, self._blob_path
        self._blob_file = self._blob_path = None
        if file is not None:
            with file:
                if keep:
                    file.flush()
                    os.fsync(file.fileno())
        if path is not None and not keep:
            with contextlib.suppress(FileNotFoundError):
                Path(path).unlink()
        return path

    def finish(self) -> None:
        """Commit the transaction; notify the databases before it becomes visible."""
        transaction = self._transaction
        for oid, tid, data, data_txn, path in self._held or ():
            if path is None:
                self._restore(oid, tid, data, data_txn)
            else:
                self._storage.restoreBlob(oid, tid, data, path, data_txn, transaction)
                self._oids.append(oid)
        self._forget_held()
        self._storage.tpc_vote(transaction)
        with self._finishing:
            # The storage calls back with its locks held, while loads wait and lastTransaction()
            # returns the previous transaction.
            self._storage.tpc_finish(transaction, self._invalidate)
        self._transaction = None

    def abort(self) -> None:
        """Abort the current transaction, if any."""
        self._end_blob(keep=False)
        self._forget_held()
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            self._storage.tpc_abort(transaction)

    def _invalidate(self, tid: bytes) -> None:
        self.announce(tid, tuple(dict.fromkeys(self._oids)))

    def announce(self, tid: bytes, oids: tuple[bytes, ...]) -> None:
        """Notify the databases of a transaction that is about to become visible."""
        for database in self._databases:
            _invalidate_database(database, tid, oids)


def _invalidate_database(database: Any, tid: bytes, oids: tuple[bytes, ...]) -> None:
    try:
        database.invalidate(tid, oids)
    except Exception as error:
        # The transaction must not become visible while a database has old data in its caches.
        # It is aborted, and received again on the next connection.
        raise InvalidationError(
            f"{database} cannot be notified of transaction 0x{tid.hex()}: {error!r}"
        ) from error


class RecordSink(StorageSink):
    """Applies the records of blobs, and ignores their files."""

    def stores_blobs(self) -> bool:
        """Return True: streams may contain blobs."""
        return True

    def begin_blob(self) -> None:
        """Do nothing: the file is ignored."""

    def write_block(self, block: bytes) -> None:
        """Ignore a part of a file."""

    def restore_blob(
        self, oid: bytes, tid: bytes, data: bytes | None, data_txn: bytes | None
    ) -> None:
        """Write a record of the current transaction, as if it had no blob."""
        self.restore(oid, tid, data, data_txn)

    def hold_blob(self, oid: bytes, tid: bytes) -> None:
        """Do nothing: this storage has no files of blobs."""

    def place_blobs(self) -> None:
        """Do nothing: no file is held."""

    def keep_blobs(self) -> None:
        """Do nothing: no file was placed."""

    def drop_blobs(self) -> None:
        """Do nothing: the blobs belong to another storage."""
