"""A storage in one file in the format of ZODB's FileStorage, implemented in Rust.

The native base class reads, commits, undoes and packs. This module adds the parts that use
ZODB's Python code: conflict resolution, blobs, the lock file, and the classes of iterators.
"""

import logging
import os
import threading
import time
import weakref
from base64 import decodebytes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

import ZODB.BaseStorage
import ZODB.interfaces
import ZODB.serialize
from persistent.TimeStamp import TimeStamp
from ZODB.blob import BlobStorageMixin
from ZODB.ConflictResolution import ConflictResolvingStorage
from ZODB.FileStorage.FileStorage import FileIterator as ReferenceIterator
from ZODB.FileStorage.FileStorage import FileStorage as ReferenceStorage
from ZODB.FileStorage.FileStorage import FileStorageError, RedundantPackWarning
from ZODB.FileStorage.format import FileStorageFormatter
from ZODB.fsIndex import fsIndex
from ZODB.POSException import POSKeyError, ReadOnlyError, UndoError
from ZODB.UndoLogCompatible import UndoLogCompatible
from ZODB.utils import cp, mktemp, z64
from zope.interface import alsoProvides, classImplements, implementer

from zc.zrs import _zrs
from zc.zrs.files import blobs
from zc.zrs.files.lock_files import LockFiles, real_path, warn_about_hard_links

logger = logging.getLogger("ZODB.FileStorage")

_ALARMING_SECONDS = 30 * 60
_UNDO_LOG_BATCH = 1000
# Data that any transformation changes, compression included.
_PROBE = b"ZODB.blob" * 100


class TransactionRecord(ZODB.BaseStorage.TransactionRecord):  # type: ignore[misc]
    """A transaction; iterate over it for its data records."""

    def __init__(  # noqa: PLR0913, PLR0917 (the parts of a transaction)
        self,
        tid: bytes,
        status: str,
        user: bytes,
        description: bytes,
        extension: bytes,
        records: _zrs.StorageRecords,
    ) -> None:
        # The base classes' __init__ would check the types of the values.
        self.tid = tid
        self.status = status
        self.user = user
        self.description = description
        self.extension_bytes = extension
        self._records = records

    def __iter__(self) -> Iterator[_zrs.StorageRecord]:
        return iter(self._records)


class FileIterator:
    """Iterates over the transactions that the file contained when the iterator was created.

    A pack does not affect it.
    """

    def __init__(self, iterator: _zrs.StorageIterator) -> None:
        self._iterator = iterator

    def __iter__(self) -> "FileIterator":
        return self

    def __next__(self) -> TransactionRecord:
        found = self._iterator.next()
        if found is None:
            self.close()
            raise StopIteration
        # Passed one by one, because unpacking a tuple of arguments is slower.
        tid, status, user, description, extension, records = found
        return TransactionRecord(tid, status, user, description, extension, records)

    next = __next__

    def __len__(self) -> int:
        # For list() and tuple() only, as in ZODB.
        return 0

    def iterator(self) -> "FileIterator":
        """Return the iterator itself, so that `copyTransactionsFrom` accepts it."""
        return self

    def close(self) -> None:
        """Close the file; the iterator ends."""
        self._iterator.close()


@implementer(
    ZODB.interfaces.IStorage,
    ZODB.interfaces.IStorageRestoreable,
    ZODB.interfaces.IStorageIteration,
    ZODB.interfaces.IStorageUndoable,
    ZODB.interfaces.IStorageCurrentRecordIteration,
    ZODB.interfaces.IExternalGC,
    ZODB.interfaces.ReadVerifyingStorage,
)
class FileStorage(
    _zrs.FileStorageBase,
    FileStorageFormatter,  # type: ignore[misc]
    BlobStorageMixin,  # type: ignore[misc]
    ConflictResolvingStorage,  # type: ignore[misc]
    UndoLogCompatible,  # type: ignore[misc]
):
    """A storage in a file, with the arguments of `ZODB.FileStorage.FileStorage`.

    `stop` shows only the transactions before that one; it requires `read_only`. `quota` is in
    bytes. `packer` is called as `IFileStoragePacker` defines, instead of the native pack.
    `commit_sync` is "ordered" (the data of a commit are durable before the byte that marks the
    transaction as committed) or "single" (both are synced at once, as in ZODB).

    With `create`, the contents of the blob directory are removed, as in ZODB. Without it, a
    missing file is not created if its blob directory contains blobs, because ZODB would remove
    them; this raises `FileStorageError`.

    Raises `OSError`, `zc.lockfile.LockError` if another process has the file open for writing,
    `ZODB.FileStorage.FileStorage.FileStorageFormatError` and `CorruptedTransactionError`.
    """

    # If this is ZODB's function, packs are native.
    packer: Callable[..., Any] = staticmethod(ReferenceStorage.packer)
    _is_transformed = False
    _closed = False

    def __init__(  # noqa: PLR0913, PLR0917 (ZODB's signature)
        self,
        file_name: str,
        create: bool = False,  # noqa: FBT001, FBT002 (ZODB's signature)
        read_only: bool = False,  # noqa: FBT001, FBT002 (ZODB's signature)
        stop: bytes | None = None,
        quota: int | None = None,
        pack_gc: bool = True,  # noqa: FBT001, FBT002 (ZODB's signature)
        pack_keep_old: bool = True,  # noqa: FBT001, FBT002 (ZODB's signature)
        packer: Callable[..., Any] | None = None,
        blob_dir: str | None = None,
        *,
        commit_sync: Literal["ordered", "single"] = "ordered",
    ) -> None:
        if read_only and create:
            raise ValueError("can't create a read-only file")
        if stop is not None and not read_only:
            raise ValueError("time-travel only supported in read-only mode")
        if quota is not None and quota < 0:
            raise ValueError(f"quota {quota} is not a number of bytes")
        self.__name__ = file_name
        # As in ZODB, a new file replaces a link itself, not the link's target.
        self._file_name = str(Path(file_name).absolute()) if create else real_path(file_name)
        self._is_read_only = read_only
        self._quota = quota
        self._pack_gc = pack_gc
        self.pack_keep_old = pack_keep_old
        self.commit_sync = commit_sync
        if packer is not None:
            self.packer = packer
        self._lock = threading.RLock()
        self._packing = threading.Lock()
        self._reader: IO[bytes] | None = None
        self._lock_file = None if read_only else LockFiles(file_name)
        try:
            if blob_dir:
                blobs.check_layout(blob_dir)
            if not (create or read_only or Path(self._file_name).exists()):
                if blob_dir:
                    blobs.check_blobs_unused(file_name, blob_dir)
                create = True
            self._lock_the_file(is_new=create)
            self._open(
                self._file_name,
                create=bool(create),
                read_only=bool(read_only),
                stop=stop,
                quota=quota,
                commit_sync=commit_sync,
            )
            self._lock_the_file()
            self._commit_lock = self._make_commit_lock()
            self._name_locks()
            self._warn()
            self._open_blobs(blob_dir, create=create)
            _open_storages.add(self)
        except BaseException as error:
            self._abort_opening(file_name, error)
            raise

    def _abort_opening(self, file_name: str, error: BaseException) -> None:
        """Release the lock; in errors, replace the file's path by the caller's, as in ZODB."""
        if isinstance(error, OSError) and error.filename == self._file_name:
            error.filename = file_name
        if self._lock_file is not None:
            self._lock_file.close()

    def _lock_the_file(self, *, is_new: bool = False) -> None:
        """Lock the file that is now at the path, under all its names."""
        if self._lock_file is not None and not is_new:
            self._lock_file.lock_file(self._file_name)

    def _name_locks(self) -> None:
        # Wrappers of this storage use these names of the locks.
        self._lock_acquire, self._lock_release = self._lock.acquire, self._lock.release
        self._commit_lock_acquire = self._commit_lock.acquire
        self._commit_lock_release = self._commit_lock.release

    def _warn(self) -> None:
        if not self._is_read_only:
            warn_about_hard_links(self._file_name)
        ahead = TimeStamp(self._tid).timeTime() - time.time()
        if ahead > 0:
            level = logging.CRITICAL if ahead > _ALARMING_SECONDS else logging.WARNING
            name = self.getName()
            logger.log(level, "%s Database records %d seconds in the future", name, ahead)

    def _open_blobs(self, blob_dir: str | None, *, create: bool) -> None:
        if not blob_dir:
            self.blob_dir = None
            self._blob_init_no_blobs()
            return
        path = Path(blob_dir).absolute()
        self.blob_dir = str(path)
        if create and path.exists():
            blobs.empty(path)
        there = next(above for above in path.parents if above.exists())
        # ZODB assumes its old layout for a new file system, because that contains a directory.
        self._blob_init(blob_dir, "bushy" if create else "automatic")
        if not self._is_read_only:
            blobs.make_directory_durable(path, there)
        alsoProvides(self, ZODB.interfaces.IBlobStorageRestoreable)

    # --- The storage as a whole

    def getName(self) -> str:
        """Return the file's name as given by the caller."""
        return self.__name__

    def sortKey(self) -> str:
        """Return the key that orders this storage among others in a transaction."""
        return self.__name__

    def close(self) -> None:
        """Save the index, and close the file and the lock file.

        Does nothing in a forked process.
        """
        try:
            self._close()
        except OSError:
            logger.exception("Error saving index on close()")
        finally:
            self._closed = True
            self._forget_reader()
            if self._lock_file is not None:
                self._lock_file.close()

    def _inherited(self) -> None:
        """Detach from the file, which belongs to the parent process."""
        self._disown()
        if self._lock_file is not None:
            self._lock_file.abandon()

    def cleanup(self) -> None:
        """Remove the file and all files that belong to it."""
        self._check_owner()
        for suffix in "", ".old", ".tmp", ".lock", ".index", ".pack":
            Path(self._file_name + suffix).unlink(missing_ok=True)

    def supportsUndo(self) -> bool:
        """Return true: transactions can be undone."""
        return True

    def getExtensionMethods(self) -> dict[str, None]:
        """Return the names of additional methods that ZEO offers to clients, as in ZODB."""
        return {"answer_to_the_ultimate_question": None}

    def answer_to_the_ultimate_question(self) -> int:
        """Return the same value as ZODB."""
        return 42

    def lastTid(self, oid: bytes) -> bytes | None:
        """Return the last transaction that wrote the object, None for an unknown object."""
        try:
            return self.getTid(oid)
        except KeyError:
            return None

    # --- Copying

    def iterator(self, start: bytes | None = None, stop: bytes | None = None) -> FileIterator:
        """Return an iterator over the transactions from `start` to `stop`, inclusive.

        This also works on a closed storage, as in ZODB: the iterator opens the file again.
        """
        if self._closed:
            closed: FileIterator = ReferenceIterator(self._file_name, start, stop)
            return closed
        return FileIterator(self._iterator(start, stop))

    def copyTransactionsFrom(self, other: Any, verbose: int = 0) -> None:
        """Copy all transactions of another storage, which must support iteration."""
        if self.blob_dir:
            BlobStorageMixin.copyTransactionsFrom(self, other)
        else:
            ZODB.BaseStorage.copy(other, self, verbose)

    # --- Blobs

    def _blob_storeblob(self, oid: bytes, serial: bytes, blobfilename: str) -> None:
        # The abort removes a file that is in its place when an error occurs.
        self.dirty_oids.append((oid, serial))
        blobs.move_into_place(self.fshelper, oid, serial, blobfilename, self._lock)

    # --- History and undo

    def history(
        self,
        oid: bytes,
        size: int = 1,
        filter: Callable[[dict[str, Any]], Any] | None = None,  # noqa: A002 (ZODB's)
    ) -> list[dict[str, Any]]:
        """Return descriptions of at most `size` revisions of an object, newest first."""
        found: list[dict[str, Any]] = []
        position = None
        while len(found) < size:
            revisions, position = self._history(oid, position, size - len(found))
            found += revisions if filter is None else [r for r in revisions if filter(r)]
            if position is None:
                break
        return found

    def undoLog(
        self,
        first: int = 0,
        last: int = -20,
        filter: Callable[[dict[str, Any]], Any] | None = None,  # noqa: A002 (ZODB's)
    ) -> list[dict[str, Any]]:
        """Return descriptions of transactions that can be undone, newest first.

        The transactions that pass the filter are numbered from 0. The result contains those
        from `first` to before `last`; a negative `last` is a number of transactions instead.
        """
        if last < 0:
            last = first - last
        found: list[dict[str, Any]] = []
        position = None
        while len(found) < last:
            wanted = min(last - len(found), _UNDO_LOG_BATCH)
            batch, position = self._undo_log(position, wanted)
            found += batch if filter is None else [d for d in batch if filter(d)]
            if position is None:
                break
        return found[first:]

    def undo(self, transaction_id: bytes, transaction: Any) -> tuple[bytes, list[bytes]]:
        """Undo the transaction with this id, which is an id from `undoLog`.

        Returns the id of the current transaction and the changed objects. Raises `UndoError`
        and `MultipleUndoErrors`.
        """
        undone = self._undo(decodebytes(transaction_id + b"\n"), transaction)
        if self.blob_dir:
            for oid, position in undone:
                if position is not None:
                    self._copy_blob(oid, position)
        return self._tid, [oid for oid, _ in undone]

    def _copy_blob(self, oid: bytes, position: int) -> None:
        """Copy a blob for the current transaction if the record at `position` has one."""
        try:
            data, tid = self._load_back(oid, position)
        except POSKeyError:
            return  # its creation was undone
        if self.is_blob_record(data):
            copy = Path(mktemp(dir=self.fshelper.temp_dir))
            with self.openCommittedBlobFile(oid, tid) as source, copy.open("wb") as target:
                cp(source, target)
            self._blob_storeblob(oid, self._tid, str(copy))

    # --- Packing

    def pack(
        self,
        t: float,
        referencesf: Callable[..., Any],
        gc: bool | None = None,  # noqa: FBT001 (ZODB's signature)
    ) -> None:
        """Remove revisions that are not needed from the time `t` (seconds since 1970) on.

        `gc` determines whether objects that are not reachable from the root are also removed;
        the default is the storage's `pack_gc`. Raises `FileStorageError` if a pack is running,
        and any exception of `referencesf`.
        """
        if self._is_read_only:
            raise ReadOnlyError
        self._check_owner()
        stop = _zrs.tid_from_time(t)
        if stop == z64:
            raise FileStorageError("Invalid pack time")
        if len(self) == 0:
            return
        if not self._packing.acquire(blocking=False):
            raise FileStorageError("Already packing")
        try:
            self._pack_to(stop, referencesf, self._pack_gc if gc is None else bool(gc))
        finally:
            self._packing.release()

    def _pack_to(self, stop: bytes, referencesf: Callable[..., Any], gc: bool) -> None:  # noqa: FBT001
        keep_old = bool(self.pack_keep_old)
        with blobs.empty_old_directory(self.blob_dir, keep_old=keep_old):
            if self.packer is not ReferenceStorage.packer:
                dropped = self._pack_with_packer(stop, referencesf, gc)
            else:
                dropped = self._pack(
                    stop,
                    referencesf,
                    gc=gc,
                    keep_old=keep_old,
                    native=referencesf is ZODB.serialize.referencesf,
                    is_blob=self.is_blob_record if self.blob_dir else None,
                    transformed=self._is_transformed,
                )
            self._lock_the_file()
            self._forget_reader()
            if self.blob_dir:
                self._remove_blobs(dropped, keep_old=keep_old)

    def _pack_with_packer(
        self,
        stop: bytes,
        referencesf: Callable[..., Any],
        gc: bool,  # noqa: FBT001
    ) -> list[blobs.Revision] | None:
        try:
            packed = self.packer(self, referencesf, stop, gc)
        except RedundantPackWarning as warning:
            logger.info("%s", warning)
            return None
        if packed is None:
            return None
        end, index = packed
        keep_old = bool(self.pack_keep_old)
        self._commit_lock.use_packed(end, index.items(), keep_old)
        return blobs.read_removed(self.fshelper, stop) if self.blob_dir else []

    def _remove_blobs(self, dropped: list[blobs.Revision] | None, *, keep_old: bool) -> None:
        """Remove the blob files of revisions dropped by this pack or an interrupted one."""
        # The revisions exist again in a file that was restored from a backup.
        left = [
            (oid, tid)
            for oid, tid in blobs.interrupted_removals(self.fshelper)
            if not self._has(oid, tid)
        ]
        if dropped is not None or left:
            blobs.remove_dropped(
                self.fshelper, [*left, *(dropped or ())], self._lock, keep_old=keep_old
            )

    def _has(self, oid: bytes, tid: bytes) -> bool:
        """Return whether a revision of an object exists."""
        try:
            self.loadSerial(oid, tid)
        except POSKeyError:
            return False
        return True

    def registerDB(self, db: Any) -> None:
        """Detect how a wrapper of this storage transforms data, if it does."""
        self._is_transformed = db.transform_record_data(_PROBE) != _PROBE
        super().registerDB(db)

    # --- Attributes that applications and packers use although they are not public

    @property
    def _ts(self) -> Any:
        return TimeStamp(self._tid)

    @_ts.setter
    def _ts(self, stamp: Any) -> None:
        self._tid = stamp.raw()

    @property
    def _ltid(self) -> bytes:
        return self.lastTransaction()

    @property
    def _pos(self) -> int:
        return self.getSize()

    @property
    def _transaction(self) -> Any:
        return self.tpc_transaction()

    @property
    def _index(self) -> Any:
        """A copy of the index."""
        index = fsIndex()
        index.update(dict(self._index_items()))
        return index

    @property
    def _file(self) -> IO[bytes]:
        """The file, for reading; its name is the caller's."""
        if self._reader is None:
            self._reader = open(  # noqa: SIM115 (closed with the storage)
                self.__name__, "rb", opener=self._open_file
            )
        return self._reader

    def _open_file(self, _name: str, flags: int) -> int:
        # The caller's name may refer to another file by now.
        return os.open(self._file_name, flags)

    def _forget_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _txn_find(self, tid: bytes, stop_at_pack: bool) -> int:  # noqa: FBT001 (ZODB's)
        position = self._find_transaction(tid, bool(stop_at_pack))
        if position is None:
            raise UndoError("Invalid transaction id")
        return position

    def _data_find(self, tpos: int, oid: bytes, data: Any) -> int:
        return self._find_data(tpos, oid, data or None) or 0


classImplements(_zrs.StorageRecord, ZODB.interfaces.IStorageRecordInformation)


_open_storages: "weakref.WeakSet[FileStorage]" = weakref.WeakSet()


def _after_fork() -> None:
    for storage in list(_open_storages):
        storage._inherited()  # noqa: SLF001 -- of this module


os.register_at_fork(after_in_child=_after_fork)
