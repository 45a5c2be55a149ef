"""Where a secondary's transactions go: into a storage, and to the databases that use it."""

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
from zc.zrs.storages.zeo_database import adapted

MAX_RECORDS = 1 << 22
"""How many records a transaction may have for a storage that keeps them all in memory."""


class TooManyRecordsError(Exception):
    """A transaction has more than `MAX_RECORDS` records."""


class InvalidationError(Exception):
    """A registered database raised something when it was told of a transaction."""


class StorageSink:
    """Applies replicated transactions to a storage; a `_zrs.Sink`.

    Its calls come from one thread at a time. `register` may be called from any.

    To a storage of ours the native code applies transactions itself; it calls `announce`
    for the databases, and for blobs what is about blobs.
    """

    def __init__(self, storage: Any, direct: _zrs.DirectTarget | None = None) -> None:
        self._storage = storage
        self.direct = direct
        """The storage for the native code, None if it is not one of ours."""
        self._transaction: Any = None
        self._oids: list[bytes] = []
        self._blob_file: BinaryIO | None = None
        self._blob_path: str | None = None
        self._held: HeldRecords | None = None
        """What follows the first blob of the transaction begun, up to its end."""
        self._databases: list[Any] = []
        # Held while a transaction is finished, so that each database hears of every
        # transaction later than its registration. Taken before the storage's own locks.
        self._finishing = threading.RLock()
        self._forget_lost_tail()

    def _forget_lost_tail(self) -> None:
        """Make ZODB's storage name the last transaction that its file has.

        When it opens a file whose end is not whole, and cuts that off, it goes on naming the
        transaction that was lost, which then nobody would ask the primary for.
        """
        storage = unwrapped(self._storage)
        if isinstance(storage, FileStorage) and (file := self.data_file()) is not None:
            path, size = file
            storage._ltid = _zrs.last_in_file(path, self.last_transaction(), size)  # noqa: SLF001

    def register(self, database: Any) -> None:
        """Tell a database, from now on, which objects each transaction changes.

        The database is an `IStorageWrapper`.
        """
        database = adapted(database)

        def register() -> None:
            database.catch_up(self._storage)
            self._databases.append(database)

        if self.direct is not None:
            self.direct.register(register)
            return
        with self._finishing:
            register()

    def last_transaction(self) -> bytes:
        """Return the storage's last transaction id, zeros if there is none."""
        tid: bytes = self._storage.lastTransaction() or z64
        return tid

    def data_file(self) -> tuple[str, int] | None:
        """Return the path and the size of the storage's Data.fs.

        None if there is none, or if it may hold the records in another form than they came.
        """
        storage = unwrapped(self._storage)
        if not isinstance(storage, FileStorage | zc.zrs.filestorage.FileStorage):
            return None
        return data_path(storage), storage.getSize()

    def list_place(self) -> tuple[_zrs.FileStorageBase | str, _zrs.Feed | None] | None:
        """Return beside which Data.fs the list of dropped transactions is, None for none."""
        return list_place(self._storage)

    def begin(
        self, tid: bytes, status: str, user: bytes, description: bytes, extension: bytes
    ) -> None:
        """Begin the transaction `tid`; `extension` is a pickle, and stays one."""
        transaction = TransactionMetaData(user, description, extension)
        self._storage.tpc_begin(transaction, tid, status)
        self._transaction = transaction
        self._oids = []

    def restore(
        self, oid: bytes, tid: bytes, data: bytes | None, data_txn: bytes | None
    ) -> None:
        """Write a record of the transaction begun."""
        if self._held is not None:
            self._held.add(oid, tid, data, data_txn)
            return
        self._restore(oid, tid, data, data_txn)

    def _restore(
        self, oid: bytes, tid: bytes, data: bytes | None, data_txn: bytes | None
    ) -> None:
        if len(self._oids) >= MAX_RECORDS:
            # Storages written in Python remember each of them; ours has no such limit.
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
        """Begin a temporary file for a blob, where the storage can take it from."""
        handle, self._blob_path = tempfile.mkstemp(
            suffix=".blob", dir=self._storage.temporaryDirectory()
        )
        self._blob_file = os.fdopen(handle, "wb")

    def write_block(self, block: bytes) -> None:
        """Add to the blob begun."""
        if self._blob_file is None:
            raise RuntimeError("a block without a blob")
        self._blob_file.write(block)

    def restore_blob(
        self, oid: bytes, tid: bytes, data: bytes | None, data_txn: bytes | None
    ) -> None:
        """Have a record, with the blob begun, written when the transaction ends.

        `restoreBlob` replaces a committed file of that object and transaction, and aborting
        removes it. The records that follow are written after it, in their order.
        """
        self._hold().add(oid, tid, data, data_txn, self._end_blob(keep=True))

    def hold_blob(self, oid: bytes, tid: bytes) -> None:
        """Have the blob begun placed when the transaction ends; the caller writes its record."""
        self._hold().add(oid, tid, None, None, self._end_blob(keep=True))

    def _hold(self) -> HeldRecords:
        if self._held is None:
            self._held = HeldRecords(self._storage.temporaryDirectory())
        return self._held

    def place_blobs(self) -> None:
        """Give the blobs held their places."""
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
        """Let the blobs placed since the last call stay."""
        self._storage._blob_tpc_finish()  # noqa: SLF001

    def drop_blobs(self) -> None:
        """Remove the blob begun, those held, and those placed since they were last kept."""
        self._end_blob(keep=False)
        self._forget_held()
        self._storage._blob_tpc_abort()  # noqa: SLF001

    def _end_blob(self, *, keep: bool) -> str | None:
        """Close the blob begun, if any, and return its path; remove it unless it is kept."""
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
        """Commit the transaction, telling the databases before anyone can read it."""
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
            # The storage calls back with its locks held, when loads still wait and
            # lastTransaction() is the old one.
            self._storage.tpc_finish(transaction, self._invalidate)
        self._transaction = None

    def abort(self) -> None:
        """Forget the transaction begun, if any."""
        self._end_blob(keep=False)
        self._forget_held()
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            self._storage.tpc_abort(transaction)

    def _invalidate(self, tid: bytes) -> None:
        self.announce(tid, tuple(dict.fromkeys(self._oids)))

    def announce(self, tid: bytes, oids: tuple[bytes, ...]) -> None:
        """Tell the databases of a transaction that is about to show."""
        for database in self._databases:
            _invalidate_database(database, tid, oids)


def _invalidate_database(database: Any, tid: bytes, oids: tuple[bytes, ...]) -> None:
    try:
        database.invalidate(tid, oids)
    except Exception as error:
        # The transaction must not show while a database has old data in its caches. It is
        # aborted, and comes again with the next connection.
        raise InvalidationError(
            f"{database} cannot be notified of transaction 0x{tid.hex()}: {error!r}"
        ) from error


class RecordSink(StorageSink):
    """Applies the records of blobs, and passes over their files."""

    def stores_blobs(self) -> bool:
        """Return True: blobs may come."""
        return True

    def begin_blob(self) -> None:
        """Do nothing: there will be no file."""

    def write_block(self, block: bytes) -> None:
        """Pass over a part of a file."""

    def restore_blob(
        self, oid: bytes, tid: bytes, data: bytes | None, data_txn: bytes | None
    ) -> None:
        """Write a record of the transaction begun, as if it had no blob."""
        self.restore(oid, tid, data, data_txn)

    def hold_blob(self, oid: bytes, tid: bytes) -> None:
        """Do nothing: there is no file."""

    def place_blobs(self) -> None:
        """Do nothing: no file is held."""

    def keep_blobs(self) -> None:
        """Do nothing: no file was placed."""

    def drop_blobs(self) -> None:
        """Do nothing: what is there is another storage's."""
