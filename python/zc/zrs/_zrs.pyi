"""The native module: replication peers, their tokio drivers, and a Data.fs reader."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict, final, type_check_only

from typing_extensions import Self, disjoint_base  # noqa: UP035 -- Python 3.10's typing has none

from zc.zrs.status.schema import ClientStatus, ServerStatus

__all__ = [
    "Check",
    "CommitLock",
    "DataRecord",
    "DirectTarget",
    "Feed",
    "FileStorageBase",
    "LogDump",
    "LoggedTransaction",
    "ObjectLog",
    "PrimaryPeer",
    "PrimaryServer",
    "Problem",
    "Salvage",
    "SecondaryClient",
    "SecondaryPeer",
    "StorageIterator",
    "StorageRecord",
    "StorageRecords",
    "TransactionReader",
    "TransactionRecord",
    "TransactionStream",
    "last_in_file",
    "make_way_for_blob",
    "record_class",
    "shut_down",
    "sync_blob",
    "tid_from_time",
    "tid_timestamp",
]

type _Address = tuple[str, int] | str
type _CommitSync = Literal["ordered", "single"]
type _WirePickles = Literal["python2", "python3"]
type _BlobLayout = Literal["bushy", "lawn"]
type _MissingBlobs = Literal["stop", "skip"]

# --- Reading a Data.fs ------------------------------------------------------------------

@final
class DataRecord:
    """A data record; `data` is the data after following backpointers, None if it has no data."""

    @property
    def oid(self) -> bytes: ...
    @property
    def tid(self) -> bytes: ...
    @property
    def data(self) -> bytes | None: ...
    @property
    def data_txn(self) -> bytes | None:
        """The tid of the record to which the backpointer leads, None without a backpointer."""
    @property
    def pos(self) -> int:
        """The position of the record in the file, in bytes."""

@final
class TransactionRecord:
    """A transaction record's header; iterate over it for its data records."""

    @property
    def tid(self) -> bytes: ...
    @property
    def status(self) -> str: ...
    @property
    def user(self) -> bytes: ...
    @property
    def description(self) -> bytes: ...
    @property
    def extension_bytes(self) -> bytes: ...
    @property
    def pos(self) -> int: ...
    def __iter__(self) -> Iterator[DataRecord]:
        """A new iterator over the records in file order, which are read one by one."""

@final
class TransactionReader:
    """Reads the finished transactions of a Data.fs through its own file handle.

    It follows the file: after `next` has returned None, it can return a transaction later, even
    if a pack has replaced the file in the meantime.
    """

    def __new__(
        cls, path: str | PathLike[str], start: bytes = ..., end: int | None = None
    ) -> Self:
        """Start after the transaction `start`; zeros mean the beginning.

        `end` is a position at which a finished transaction is known to end; with it, the search
        starts at both ends of the file. Raises `zc.zrs.primary.TidTooHigh`, `OSError`,
        `ZODB.FileStorage.format.CorruptedError`.
        """
    def next(self) -> TransactionRecord | None: ...

def record_class(data: bytes) -> tuple[str, str] | None:
    """Module and name of the class in a record, without importing anything; None if they are
    not in a form that ZODB writes."""

# --- Damaged files ----------------------------------------------------------------------

@final
class Problem:
    """A problem of a Data.fs or its index."""

    @property
    def kind(self) -> str:
        """A short name of the kind of problem, such as `redundant-length`."""
    @property
    def message(self) -> str: ...
    @property
    def pos(self) -> int: ...
    @property
    def tid(self) -> bytes | None: ...
    @property
    def oid(self) -> bytes | None: ...
    @property
    def skipped(self) -> int:
        """The number of bytes from `pos` on that cannot be parsed as records."""
    @property
    def reference(self) -> tuple[bytes, str] | None:
        """The oid to which the object refers, and why that cannot be loaded."""

@final
class Check:
    """Reads a Data.fs, and reports problems of it and its index. Changes nothing."""

    def __new__(
        cls,
        path: str | PathLike[str],
        *,
        index: bool = True,
        references: bool = True,
        blobs: tuple[str | PathLike[str], str] | None = None,
    ) -> Self:
        """`blobs` are the path and the layout of the blob directory. Raises `OSError` and
        `ZODB.FileStorage.FileStorage.FileStorageFormatError`."""
    def step(self, length: int) -> tuple[Literal["scanning", "following", "done"], int, int]:
        """Process about `length` bytes, without the GIL; return the current phase, how much of
        it is done, and the total, in bytes or objects."""
    def take_problems(self) -> list[Problem]:
        """The problems found since the last call."""
    def data(self, pos: int) -> bytes | None:
        """The data of the record at `pos`, after following backpointers; None if it is not a
        record or is empty."""
    @property
    def counts(self) -> tuple[int, int, int]:
        """The numbers of transactions, data records and objects read."""
    @property
    def transformed(self) -> int:
        """The number of current records that a wrapper such as zc.zlibstorage has transformed:
        their references were not followed."""

@final
class Salvage:
    """Copies the intact transactions of a damaged Data.fs to a new one."""

    def __new__(
        cls,
        source: str | PathLike[str],
        target: str | PathLike[str],
        *,
        partial: bool = False,
    ) -> Self:
        """`target` is an empty file. With `partial`, the records of a damaged transaction
        before the damage are copied too. Raises the exceptions of `Check`."""
    def step(self, length: int) -> bool:
        """Process about `length` bytes, without the GIL; False at the end."""
    def take_findings(self) -> list[tuple[Problem, int]]:
        """The problems found since the last call, each with the number of bytes lost, 0 if the
        copy is repaired."""
    @property
    def pos(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def copied(self) -> tuple[int, int, int]:
        """The numbers of transactions and data records in the copy, and of bytes of the damaged
        file that are not in it."""

# --- A storage in a Data.fs -----------------------------------------------------------

@disjoint_base
class FileStorageBase:
    """The native part of `zc.zrs.filestorage.FileStorage`.

    Methods with names of ZODB implement its interfaces and raise its exceptions. The subclass
    has `tryToResolveConflict`, `_blob_tpc_finish` and `_blob_tpc_abort`, which are called with
    the commit lock held.
    """

    def __new__(cls, *args: Any, **options: Any) -> Self: ...
    def _open(
        self,
        path: str,
        *,
        create: bool,
        read_only: bool,
        stop: bytes | None,
        quota: int | None,
        commit_sync: _CommitSync,
    ) -> None:
        """Open or create the file; call this before every other method."""
    def _disown(self) -> None:
        """Refuse changes: this process was forked from the one that opened the storage."""
    def _check_place(self) -> None:
        """Raise `StorageSystemError` if the path leads to a file other than the open one."""
    def _check_owner(self) -> None:
        """Raise `StorageSystemError` in a process that did not open the storage."""
    def _close(self) -> None:
        """Save the index and refuse further work. Does nothing the second time."""

    # Reading
    def load(self, oid: bytes, version: object = ...) -> tuple[bytes, bytes]: ...
    def loadBefore(
        self, oid: bytes, tid: bytes
    ) -> tuple[bytes, bytes, bytes | None] | None: ...
    def loadSerial(self, oid: bytes, serial: bytes) -> bytes: ...
    def getTid(self, oid: bytes) -> bytes: ...
    def lastTransaction(self) -> bytes: ...
    def lastInvalidations(self, count: int) -> list[tuple[bytes, list[bytes]]]: ...
    def record_iternext(
        self,
        next: bytes | None = None,  # noqa: A002 (ZODB's)
    ) -> tuple[bytes, bytes, bytes, bytes | None]: ...
    def _iterator(
        self, start: bytes | None = None, stop: bytes | None = None
    ) -> StorageIterator: ...
    def _history(
        self, oid: bytes, position: int | None, count: int
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Descriptions of at most `count` revisions, backwards from the one at `position`
        (None: the current one), and the position at which to continue."""
    def _undo_log(
        self, position: int | None, count: int
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Descriptions of at most `count` transactions, backwards from the one that ends at
        `position` (None: the last one), and the position at which to continue."""
    def _lookup_pos(self, oid: bytes) -> int: ...
    def _load_back(self, oid: bytes, position: int) -> tuple[bytes, bytes]:
        """The data of the record at `position`, after following backpointers, and the tid of
        the record that contains it."""
    def _find_transaction(self, tid: bytes, stop_at_pack: bool) -> int | None:
        """The position of a transaction, None if it does not exist."""
    def _find_data(self, position: int, oid: bytes, data: bytes | None) -> int | None:
        """The position of the object's last record in the transaction at `position`, if it has
        this data or a backpointer."""

    # The storage itself
    def __len__(self) -> int: ...
    def getSize(self) -> int: ...
    def isReadOnly(self) -> bool: ...
    def new_oid(self) -> bytes: ...
    def set_max_oid(self, possible_new_max_oid: bytes) -> None: ...
    @property
    def _oid(self) -> bytes:
        """The highest oid in use."""
    @property
    def _used_index(self) -> bool:
        """Whether a valid index file was found when the storage was opened."""
    @property
    def _saved(self) -> int:
        """The number of times that the index was saved."""
    def _save_index(self) -> None: ...
    def _index_items(self) -> list[tuple[bytes, int]]:
        """The oids and the positions of their current records, in order of oids."""

    # Packing
    def _pack(
        self,
        time: bytes,
        references: Callable[..., Any],
        *,
        gc: bool,
        keep_old: bool,
        native: bool,
        is_blob: Callable[[bytes], Any] | None,
        transformed: bool,
    ) -> list[tuple[bytes, bytes]] | None:
        """Pack; return the revisions of blobs whose files can be removed, as oids and tids, or
        None if there was nothing to pack.

        `native` is true if `references` is `ZODB.serialize.referencesf`. `is_blob` is called
        only if data is `transformed`.
        """
    def _pack_progress(self) -> tuple[str, int, int]:
        """The phase of a pack (``reading``, ``reaching`` or ``copying``; empty before the first
        pack), how much of it is done, and the total: in bytes, or in objects while
        ``reaching``."""
    def _make_commit_lock(self) -> CommitLock: ...

    # Transactions
    def tpc_begin(
        self, transaction: object, tid: bytes | None = None, status: str = " "
    ) -> None: ...
    def store(
        self,
        oid: bytes,
        oldserial: bytes | None,
        data: bytes,
        version: object,
        transaction: object,
    ) -> None: ...
    def deleteObject(self, oid: bytes, oldserial: bytes, transaction: object) -> None: ...
    def restore(
        self,
        oid: bytes,
        serial: bytes,
        data: bytes | None,
        version: object,
        prev_txn: bytes | None,
        transaction: object,
    ) -> None: ...
    def _undo(self, tid: bytes, transaction: object) -> list[tuple[bytes, int | None]]:
        """Undo; return the objects, each with the position to which the backpointer of its new
        record leads, if it has one."""
    def checkCurrentSerialInTransaction(
        self, oid: bytes, serial: bytes, transaction: object
    ) -> None: ...
    def tpc_vote(self, transaction: object) -> list[bytes]: ...
    def tpc_finish(
        self, transaction: object, f: Callable[[bytes], object] | None = None
    ) -> bytes: ...
    def tpc_abort(self, transaction: object) -> None: ...
    def tpc_transaction(self) -> Any: ...
    @property
    def _tid(self) -> bytes:
        """The id of the current transaction or the last one; the next id is higher."""
    @_tid.setter
    def _tid(self, tid: bytes) -> None: ...
    @property
    def _resolved(self) -> list[bytes]: ...

@final
class CommitLock:
    """The commit lock, for a packer written in Python."""

    def acquire(self) -> bool: ...
    def release(self) -> None: ...
    def locked(self) -> bool: ...
    def use_packed(self, end: int, items: Iterable[tuple[bytes, int]], keep_old: bool) -> None:
        """Replace the storage's file by the one with the suffix ``.pack``, which ends at `end`
        and has these objects, and release the lock."""
    def __enter__(self) -> bool: ...
    def __exit__(self, kind: object, error: object, traceback: object) -> None: ...

@final
class StorageIterator:
    """Iterates over the transactions that a storage had when the iterator was created."""

    def next(self) -> tuple[bytes, str, bytes, bytes, bytes, StorageRecords] | None:
        """Tid, status, user, description, extension and records of the next one."""
    def close(self) -> None: ...

@final
class StorageRecords:
    """The data records of a transaction; each iteration starts with the first one."""

    def __iter__(self) -> Iterator[StorageRecord]: ...

@final
class StorageRecord:
    """A data record; wrappers of storages can replace its attributes."""

    oid: bytes
    tid: bytes
    data: bytes | None
    data_txn: bytes | None
    @property
    def pos(self) -> int: ...
    @property
    def version(self) -> str: ...

# --- A primary's side -------------------------------------------------------------------

@final
class Feed:
    """Determines which transactions of a storage may be sent: those up to the published tid."""

    def __new__(
        cls,
        path: str,
        tid: bytes,
        end: int | None = None,
        blob_dir: str | None = None,
        blob_layout: _BlobLayout = "bushy",
        missing_blobs: _MissingBlobs = "stop",
        storage: FileStorageBase | None = None,
        held: Callable[[], tuple[int, int, bool] | None] | None = None,
        *,
        refuse_unverified: bool = False,
    ) -> Self:
        """`path` is the storage's Data.fs, `tid` its last finished transaction, `end` the
        position at which that transaction ends. With a blob directory, blobs are sent too;
        `missing_blobs` defines whether a blob without a file ends the stream, or only its
        record is sent. The index of `storage` speeds up finding start positions. With
        `refuse_unverified`, a secondary is refused if its last transaction may have been
        dropped by a pack that left no list. Only the file that `storage` has open is sent. For
        another storage, `held` returns the device and inode number of its open file, and
        whether a pack may be replacing it."""
    @property
    def ships_blobs(self) -> bool: ...
    @property
    def tid(self) -> bytes: ...
    @property
    def commits(self) -> int:
        """The number of published transactions."""
    def publish(self, tid: bytes, end: int | None = None) -> None:
        """Publish the transactions up to `tid`, which are durable, and wake the streams. Never
        waits for them."""
    def is_displaced(self) -> bool:
        """Check whether the path leads to a file other than the storage's open one."""
    def finish(self) -> None:
        """End each stream after it has sent all published transactions."""

@final
class TransactionStream:
    """The bytes that a primary sends to one secondary after the handshake."""

    def __new__(
        cls,
        feed: Feed,
        start: bytes,
        wire_pickles: _WirePickles = "python3",
        peer: str = "",
    ) -> Self:
        """`peer` is the secondary's address as the log shows it."""
    def next_chunk(self) -> bytes | None:
        """Wait, without the GIL, for bytes to send; None at the end or after `stop`.

        Raises the exceptions of `TransactionReader`. If a secondary is refused because of a
        fork, that is logged, and the message about it is returned before None.
        """
    def capability_offered(self) -> None:
        """Send a hello before the next transaction: the secondary accepts control messages."""
    def list(self, after: bytes) -> None:
        """Send the list of dropped transactions later than `after`; only the first call has an
        effect."""
    def stop(self) -> None:
        """Make `next_chunk` return None, immediately and from now on. Any thread may call
        this."""

@final
class PrimaryPeer:
    """The primary's side of one connection, without its socket. Logs its events.

    A driver calls `connected`, `receive_data`, `next_event` until it returns None, and
    `disconnected`. `name` is the peer's address as the log shows it.
    """

    def __new__(cls, name: str, blobs: bool = False, feed: Feed | None = None) -> Self:
        """With `blobs`, the secondary must accept blobs too. With a `feed`, the log of all its
        peers is bounded for each host."""
    def connected(self) -> None: ...
    def receive_data(self, data: bytes) -> None: ...
    def next_event(
        self,
    ) -> (
        tuple[Literal["start", "list", "diverged"], bytes]
        | tuple[Literal["capability_offered", "failed"], None]
        | None
    ):
        """`start`: start a stream after this tid. `capability_offered` and `list`: call the
        method of the stream with this name. `diverged`: call `diverged` and close the
        connection. `failed`: the peer violated the protocol, which is logged; close the
        connection."""
    @property
    def capability_offered(self) -> bool:
        """Whether the secondary has made a capability offer, which zc.zrs never does."""
    def diverged(self, feed: Feed, tid: bytes) -> None:
        """Log, once for each host and tid, that the transaction is not in the feed's
        history."""
    def stream_failed(self, reason: str) -> None:
        """Log, as an error, that the stream to this peer cannot continue."""
    def closed(self) -> None:
        """Log that this side closes the connection."""
    def disconnected(self, reason: str) -> None:
        """Log the end of the connection; `reason` is shown as it is."""

@type_check_only
class TLSMaterial(TypedDict):
    """The contents of the PEM files that `zc.zrs.tls.TLSFiles` has read."""

    certificate: bytes | None
    key: bytes | None
    password: bytes | None
    authenticate: list[bytes] | None
    check_hostname: bool
    server_hostname: str | None
    shown: str
    """The files' paths, for errors."""

@final
class PrimaryServer:
    """Serves a feed on a TCP or UNIX socket, with tokio."""

    def __new__(
        cls,
        feed: Feed,
        addr: _Address,
        wire_pickles: _WirePickles = "python3",
        *,
        allow: Sequence[str] | None = None,
        max_connections: int = 1000,
        handshake_deadline: float = 30.0,
        tls: TLSMaterial | None = None,
    ) -> Self:
        """Bind and listen. An empty host means all IPv4 addresses, port 0 any free port. Raises
        `OSError` if the address cannot be bound, and `ValueError` for an invalid network in
        `allow` and for certificates that cannot be used."""
    @property
    def address(self) -> _Address:
        """The bound address."""
    @property
    def connections(self) -> int: ...
    def status(self) -> ServerStatus:
        """Return the status with all keys (docs/status.md)."""
    def close(self, deadline: float = 10.0) -> None:
        """Stop listening, finish the feed, and close each connection when it has sent
        everything, at the latest after `deadline` seconds."""

# --- A secondary's side -----------------------------------------------------------------

@type_check_only
class Sink(Protocol):
    """The target of a secondary's transactions. One thread at a time calls it, in the order
    begin, (restore | begin_blob, write_block*, restore_blob)*, finish; abort can follow any of
    them except finish.

    If `direct` is a target, the transactions are applied to that. Then only the methods for
    blobs are called, with hold_blob instead of restore_blob, place_blobs and keep_blobs instead
    of finish, and drop_blobs instead of abort; and announce, for each transaction that is about
    to become visible, if `direct.register` was called.
    """

    @property
    def direct(self) -> DirectTarget | None: ...
    def last_transaction(self) -> bytes: ...
    def data_file(self) -> tuple[str, int] | None:
        """The path of the Data.fs that contains the transactions as received, and a position at
        which one ends; None without such a file."""
    def list_place(self) -> tuple[FileStorageBase | str, Feed | None] | None:
        """The Data.fs to which the list of dropped transactions belongs: a storage whose packs
        write such lists, or a path, with the feed of that file if it has one. None without such
        a file."""
    def begin(
        self, tid: bytes, status: str, user: bytes, description: bytes, extension: bytes
    ) -> None: ...
    def restore(
        self, oid: bytes, tid: bytes, data: bytes | None, data_txn: bytes | None
    ) -> None: ...
    def stores_blobs(self) -> bool: ...
    def begin_blob(self) -> None: ...
    def write_block(self, block: bytes) -> None: ...
    def restore_blob(
        self, oid: bytes, tid: bytes, data: bytes | None, data_txn: bytes | None
    ) -> None: ...
    def finish(self) -> None: ...
    def abort(self) -> None: ...
    def hold_blob(self, oid: bytes, tid: bytes) -> None: ...
    def place_blobs(self) -> None: ...
    def keep_blobs(self) -> None: ...
    def drop_blobs(self) -> None: ...
    def announce(self, tid: bytes, oids: tuple[bytes, ...]) -> None: ...

@final
class DirectTarget:
    """A FileStorage to which a secondary applies transactions without Python, in groups that
    become durable together. Durable transactions are published to `feed`."""

    def __new__(cls, storage: FileStorageBase, feed: Feed | None = None) -> Self: ...
    def register(self, register: Callable[[], object]) -> None:
        """Call `register`, which adds a database, while no transaction becomes visible. The
        sink's `announce` is called for all later transactions."""

def last_in_file(path: str, tid: bytes, end: int) -> bytes:
    """The last transaction in the Data.fs at `path`, whose storage reports that it is `tid` and
    ends at `end`: an earlier one if that one does not exist and was not removed by a pack."""

@final
class SecondaryPeer:
    """The secondary's side of one connection, without its socket. Applies transactions and logs
    its events.

    A driver calls `connected` and sends the result, then `receive_data`, and `disconnected` at
    the end. `name` is the peer's address as the log shows it.
    """

    def __new__(cls, name: str, sink: Sink, check_checksums: bool = True) -> Self: ...
    def connected(self) -> bytes:
        """The handshake, for the sink's last transaction."""
    def receive_data(self, data: bytes) -> bool:
        """Decode and check the data, and apply it to the sink before returning. Return False if
        the stream or the sink has failed, which is logged, and the transaction was aborted;
        then close the connection."""
    def keep_alive(self) -> bytes:
        """The keep-alive message."""
    def disconnected(self, reason: str) -> None:
        """Abort an unfinished transaction and log the end of the connection; `reason` is
        shown as it is."""

@final
class SecondaryClient:
    """Replicates from a primary to a sink, with tokio, and reconnects when needed."""

    def __new__(
        cls,
        sink: Sink,
        addrs: Sequence[_Address],
        reconnect_delay: float = 60.0,
        check_checksums: bool = True,
        keep_alive_delay: float = 0.0,
        *,
        tls: TLSMaterial | None = None,
        node_name: str | None = None,
    ) -> Self:
        """Raises `ValueError` for certificates that cannot be used, and for a `node_name` that
        is not 1 to 64 letters, digits, dots, hyphens and underscores."""
    def set_address(self, addr: _Address) -> None:
        """Disconnect from the current primary, if any, and connect to this one immediately."""
    def set_addresses(self, addrs: Sequence[_Address], stay: bool = False) -> None:
        """Stay with the current primary if it has one of these addresses, else connect to one
        of them.

        With no address and `stay`, the connection is kept until it ends.
        """
    @property
    def connected(self) -> bool: ...
    def status(self) -> ClientStatus:
        """Return the status with all keys (docs/status.md)."""
    def close(self) -> None:
        """Disconnect, abort an unfinished transaction, and end the threads."""

# --- The process ------------------------------------------------------------------------

def shut_down() -> None:
    """End every server, client and thread of this module; called at exit."""

def make_way_for_blob(path: str | PathLike[str], top: str | PathLike[str]) -> None:
    """Create the missing directories between a blob's file and the directory `top`.

    Raises `OSError`.
    """

def sync_blob(path: str | PathLike[str], top: str | PathLike[str]) -> None:
    """Sync a file, and all directories from `top` down to it.

    Raises `OSError`.
    """

def tid_from_time(seconds: float) -> bytes:
    """The tid for a time in seconds since 1970."""

def tid_timestamp(tid: bytes) -> str:
    """The time of a tid, as `str(ZODB.TimeStamp.TimeStamp(tid))` prints it."""

# --- The log of dobbin ------------------------------------------------------------------

type _Changes = tuple[list[int], bool, int]
type _Fold = Callable[[list[bytes]], tuple[list[int], bytes] | None]
type _Row = tuple[int, str, int, int, int]
type _Damage = tuple[int, int | None, list[int], str]

@final
class ObjectLog:
    """An open log, which is created if the file does not exist.

    Oids are numbers from 1. Commits of others become visible with `catch_up` and `begin`,
    which return the changed objects, whether the root changed, and the number of transactions.
    Raises `dobbin.exc.IntegrityError`, `OSError`; `KeyError` for oids that do not exist;
    `ValueError` once it is closed.
    """

    def __new__(
        cls,
        path: str | PathLike[str],
        *,
        identity: bytes,
        read_only: bool = False,
        existing: bool = False,
        sync: str = "commit",
    ) -> Self:
        """`identity` are 16 random bytes for a new file; `sync` is `commit` or `none`.

        With `existing`, a missing file is an error.
        """
    def __len__(self) -> int: ...
    @property
    def path(self) -> Path:
        """The path of the file: absolute, without symbolic links."""
    @property
    def number(self) -> int:
        """The number of the last transaction, which is also their count."""
    @property
    def root(self) -> int | None: ...
    @property
    def damaged(self) -> list[str]: ...
    def close(self) -> None:
        """Save the index and close the file; a failure to save the index is logged."""
    def save_index(self) -> None: ...
    def checkpoint(self) -> None:
        """Save the index if the file has grown enough; failures are logged."""
    def load(self, oid: int) -> tuple[int, list[bytes]]:
        """The last transaction that wrote an object, and its pickles."""
    def serial(self, oid: int) -> int: ...
    def has(self, oid: int) -> bool:
        """Whether the object or stream exists."""
    def stream_length(self, oid: int) -> int: ...
    def stream_bytes(self, oid: int, offset: int) -> bytes:
        """The bytes from an offset to the end of its block; none at the end."""
    def wait(
        self, timeout: float | None = None, ready: Callable[[], bool] | None = None
    ) -> bool:
        """Wait until others have committed or `ready` is true; False after `timeout` seconds."""
    def catch_up(self) -> _Changes: ...
    def lock(self) -> None:
        """Wait for the lock that only one writer among all threads and processes holds."""
    def unlock(self) -> None: ...
    def begin(self, microseconds: int) -> _Changes:
        """Begin a transaction, under the lock; its time is in microseconds since 1970."""
    def new_oid(self) -> int: ...
    def set_root(self, oid: int) -> None: ...
    def wants_full(self, oid: int) -> bool:
        """Whether an object should be stored in full now, not as changes."""
    def store(self, oid: int, full: bool, references: list[int], pickle: bytes) -> None: ...
    def begin_stream(self) -> int: ...
    def write_stream(self, data: bytes) -> None: ...
    def end_stream(self) -> None: ...
    def vote(self) -> None:
        """Write everything except the end.

        Raises `dobbin.exc.InvalidObjectReference` for a reference to a missing object.
        """
    def finish(self) -> int:
        """End the transaction, which is then committed; return its number."""
    def fail(self) -> None:
        """Discard the transaction; its number is used unless the disk is full."""
    def sync(self) -> None:
        """Wait until finished transactions are durable, unless `sync` is `none`."""
    def snapshot(
        self, target: ObjectLog, microseconds: int | None, fold: _Fold | None = None
    ) -> None:
        """Write the current objects, or those of a time, into an empty log's transaction.

        `fold` combines the pickles of an object; it returns the references and one pickle, or
        None to copy them unchanged.
        """
    def compact(
        self,
        identity: bytes,
        microseconds: int,
        reachable: bool,
        fold: _Fold | None = None,
    ) -> tuple[int, int]:
        """Replace the file, under the lock; return the length of the old and the new one."""

@final
class LoggedTransaction:
    """A transaction, or the readable part of one; values that are unknown are None."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int | None: ...
    @property
    def number(self) -> int | None: ...
    @property
    def microseconds(self) -> int | None: ...
    @property
    def committed(self) -> bool | None: ...
    @property
    def root(self) -> int | None: ...
    @property
    def records(self) -> list[_Row]:
        """Oid, kind (`object`, `changes`, `stream`), position, length, transaction."""
    @property
    def problems(self) -> list[_Damage]:
        """Position, transaction, objects, description."""

@final
class LogDump:
    """Reads a log from beginning to end."""

    def __new__(cls, path: str | PathLike[str]) -> Self: ...
    def next(self) -> LoggedTransaction | None: ...
    @property
    def path(self) -> Path:
        """The path of the file: absolute, without symbolic links."""
    @property
    def shortened(self) -> str | None:
        """The error message if the file is shorter than its index shows it was."""
    def dangling(self) -> list[tuple[int | None, int, int]]:
        """References that lead nowhere: object (None: the root), position, target."""
    @property
    def progress(self) -> tuple[int, int]:
        """The number of bytes read, and the length of the file."""
    @property
    def durable(self) -> int:
        """The position up to which the file was durable: damage before it is real damage."""
