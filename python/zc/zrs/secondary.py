"""Secondary storages: read-only copies that replicate from a primary storage."""

import functools
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, cast

from ZODB.interfaces import BlobError, IBlobStorage, IStorageRestoreable
from ZODB.POSException import ReadOnlyError, StorageError
from ZODB.utils import load_current, oid_repr, z64

from zc.zrs import _zrs
from zc.zrs.applying.direct import direct_target
from zc.zrs.applying.sink import RecordSink, StorageSink
from zc.zrs.primary import Blobs, Primary
from zc.zrs.status.lag_record import LagRecord, quiet_means_caught_up
from zc.zrs.status.schema import PlainSecondaryStatus, SecondaryStatus
from zc.zrs.status.states import unhandled
from zc.zrs.storages.file_place import FilePlace
from zc.zrs.storages.replica import PlaceCheck, Replica
from zc.zrs.storages.self_report import SelfReport
from zc.zrs.storages.wrapper import check_choice
from zc.zrs.system.address import Address, address_to_connect, check_address, check_addresses
from zc.zrs.tls import TLSFiles, files_of
from zc.zrs.twisted_driver import driver as twisted_driver
from zc.zrs.twisted_driver.secondary import SecondaryFactory

__all__ = ["Secondary", "SecondaryFactory"]

logger = logging.getLogger(__name__)

_POLL_INTERVAL = 0.05

# Methods that only some storages have; `Secondary` itself defines those of all storages.
_OPTIONAL_WRITING_METHODS = frozenset(
    [
        "checkCurrentSerialInTransaction",
        "copyTransactionsFrom",
        "deleteObject",
        "restore",
        "restoreBlob",
        "storeBlob",
        "undo",
    ]
)


class Secondary(Replica):
    """A storage that applies the transactions of a primary, and is otherwise read-only.

    It closes the storage that it wraps when it is closed. A path is opened as a new
    `zc.zrs.filestorage.FileStorage`. A secondary can be packed: primaries do not replicate
    packs.

    :param addr: the primary's ``(host, port)``, with an empty host for this machine, or the
        path of its UNIX socket; or a list of such addresses, of which the secondary uses any.
        With an empty list it waits for `setReplicationAddresses`
    :param reactor: an object with the interface of a Twisted reactor, which is used instead of
        threads of this package
    :param reconnect_delay: maximum seconds between attempts to connect; the first delays are
        1, 2, 4 seconds and so on
    :param check_checksums: False accepts primaries that send no checksums (before zc.zrs
        2.0.3)
    :param keep_alive_delay: seconds between messages that keep the connection alive, 0 for
        none
    :param blobs: ``"all"`` to replicate the files of blobs, ``"none"`` to replicate only their
        records, if all machines share the files. With ``"none"``, a storage without blobs
        raises `ZODB.interfaces.BlobError` when a blob is opened, and a storage with blobs
        raises it when it is packed, because a pack would remove the primary's files. A new
        FileStorage of ZODB with a `blob_dir` empties that directory: create its file
        beforehand, without `blob_dir`
    :param ssl: certificates and keys for an encrypted connection; not with a reactor
    :param status_address: address on which to serve the status over HTTP: a host, empty for
        this machine only, and a port, 0 for any free port; None for no status server. Storages
        of a process can share an address
    :param status_names: additional host names by which clients reach the status, such as that
        of a proxy; by default only IP addresses and names of this machine are accepted
    :param storage_name: name of the storage among those that share a status address, and value
        of the label ``storage`` of its metrics; the default is the storage's own name, usually
        the path of its file
    :param node_name: name of this secondary in the status and metrics of the primary: 1 to 64
        letters, digits, dots, hyphens and underscores; the default is its address. Not with a
        reactor

    Raises `TypeError` for a storage that cannot restore transactions, `ValueError` for
    certificates that cannot be used, and `OSError` if the status address cannot be bound.
    """

    def __init__(  # noqa: PLR0913, PLR0917 -- zc.zrs's signature
        self,
        storage_or_path: Any,
        addr: Address | list[Address],
        reactor: Any = None,
        reconnect_delay: float = 60,
        check_checksums: bool = True,  # noqa: FBT001, FBT002 -- zc.zrs's signature
        keep_alive_delay: float = 0,
        *,
        blobs: Blobs = "all",
        ssl: TLSFiles | Mapping[str, Any] | None = None,
        status_address: Address | None = None,
        status_names: Iterable[str] = (),
        storage_name: str | None = None,
        node_name: str | None = None,
    ) -> None:
        check_choice("blobs", blobs, "all", "none")
        self.__addr: Any = addr
        addrs = check_addresses(addr)
        self.__tls = None if (files := files_of(ssl)) is None else files.read()
        if reactor is not None and self.__tls is not None:
            raise ValueError("ssl cannot be combined with a reactor")
        if reactor is not None and node_name is not None:
            raise ValueError("node_name cannot be combined with a reactor")
        self.__lag_record = LagRecord()
        self.__lag_lock = threading.Lock()
        super().__init__(
            "secondary",
            storage_or_path,
            functools.partial(
                self.__begin,
                addrs,
                reactor,
                reconnect_delay,
                keep_alive_delay,
                blobs=blobs,
                check_checksums=check_checksums,
                node_name=node_name,
            ),
            SelfReport(status_address, status_names, storage_name),
            logger,
            has_own_blobs=blobs == "all",
        )

    def __begin(  # noqa: PLR0913 -- the driver's options
        self,
        addrs: list[Address],
        reactor: Any,
        reconnect_delay: float,
        keep_alive_delay: float,
        storage: Any,
        *,
        blobs: Blobs,
        check_checksums: bool,
        node_name: str | None,
    ) -> tuple[FilePlace, PlaceCheck]:
        self.__storage = storage
        self.__sink = sink = _sink_of(storage, blobs)
        if blobs == "none" and not IBlobStorage.providedBy(storage):
            vars(self).update(loadBlob=_no_blob, openCommittedBlobFile=_no_blob)
        elif blobs == "none":
            vars(self).update(pack=_no_pack)
        self.__place = FilePlace(storage, logger)
        logger.info("Opening %s %s", storage.getName(), self.__addr)
        addrs = [address_to_connect(addr) for addr in addrs]
        self.__client: _zrs.SecondaryClient | twisted_driver.TwistedClient
        if reactor is None:
            self.__client = _zrs.SecondaryClient(
                sink,
                addrs,
                float(reconnect_delay),
                check_checksums,
                float(keep_alive_delay),
                tls=self.__tls,
                node_name=node_name,
            )
        else:

            def make_peer(name: str) -> _zrs.SecondaryPeer:
                return _zrs.SecondaryPeer(name, sink, check_checksums)

            self.__client = twisted_driver.connect(
                reactor, addrs, make_peer, reconnect_delay, keep_alive_delay
            )
        return self.__place, self.__place.is_displaced

    def _end_replication(self) -> None:
        logger.info("Closing %s %s", self.__storage.getName(), self.__addr)
        self.__client.close()

    def setReplicationAddress(self, addr: Address) -> None:
        """Replicate from a primary at another address from now on."""
        self.__addr = check_address(addr)
        self.__client.set_address(address_to_connect(self.__addr))

    def setReplicationAddresses(self, addrs: list[Address], *, stay: bool = False) -> None:
        """Replicate from a primary at any of these addresses from now on.

        If the secondary is connected to one of them, it stays connected. With an empty list it
        disconnects, unless `stay` is true: then the current connection is kept until it ends,
        but not reestablished.
        """
        self.__addr = addrs
        self.__client.set_addresses(
            [address_to_connect(addr) for addr in check_addresses(addrs)], stay
        )

    def status(self) -> SecondaryStatus:
        """Return the state of the secondary as a dictionary.

        The page "Status" of the documentation describes the keys. If the secondary wraps a
        primary, the primary's status is in ``primary``. ``caught_up`` is true if a call since
        the secondary was opened found that it followed its primary and had all of its
        transactions.
        """
        client = self.__client.status()
        # Outside the lock, because the storage may respond slowly.
        facts = super().status()
        is_displaced = self.__place.is_displaced()
        with self.__lag_lock:
            lag = self.__lag_record.lag(client, time.time())
            caught_up = self.__lag_record.caught_up
        plain: PlainSecondaryStatus = {
            "address": self.__addr,
            **client,
            "file_replaced": is_displaced,
            **facts,
            "lag_seconds": lag,
            "caught_up": caught_up,
        }
        status = cast("SecondaryStatus", plain)
        if isinstance(self.__storage, Primary):
            status["primary"] = self.__storage.status()
        return status

    def wait_until_caught_up(self, timeout: float | None = 60.0) -> None:
        """Wait until the secondary follows its primary and has all its known transactions.

        If the primary may be one that does not announce its position, the secondary counts as
        caught up when it has received nothing on the connection for 30 seconds. After this
        call, a database can be opened on a secondary that was empty, unless the primary is
        empty too.

        :param timeout: maximum seconds to wait; None for no limit

        Raises `TimeoutError` after `timeout` seconds, and `ZODB.POSException.StorageError` if
        waiting cannot succeed: the primary has a different history, the secondary is closed,
        or it has a reactor and therefore cannot determine whether it follows its primary.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        while True:
            status = self.status()
            state = status["state"]
            lag, caught_up = status["lag_seconds"], status["caught_up"]
            why = _described_state(status)
            match state:
                case "following" if lag == 0:
                    return
                case "quiet" if quiet_means_caught_up(state, caught_up=caught_up, lag=lag):
                    return
                case "stopped":
                    raise StorageError(f"{self.getName()} was closed")
                case "diverged":
                    raise StorageError(f"{self.getName()} cannot catch up: {why}")
                case "streaming":
                    raise StorageError(
                        "a secondary with a reactor cannot determine whether it follows its"
                        " primary"
                    )
                case (
                    "connecting" | "waiting" | "catching up" | "following" | "silent" | "quiet"
                ):
                    pass
                case _:
                    unhandled(state)
            if ends is not None and time.monotonic() >= ends:
                raise TimeoutError(
                    f"{self.getName()} has not caught up with its primary at {self.__addr}"
                    f" after {timeout:g} s: {why}"
                )
            time.sleep(_POLL_INTERVAL)

    def registerDB(self, db: Any) -> None:
        """Notify `db` of the objects changed by each replicated transaction."""
        self.__storage.registerDB(db)
        self.__sink.register(db)

    def isReadOnly(self) -> bool:
        """Return True: only the primary writes."""
        return True

    def new_oid(self) -> NoReturn:
        """Raise `ReadOnlyError`."""
        raise ReadOnlyError

    def store(self, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG002 -- ignored
        """Raise `ReadOnlyError`."""
        raise ReadOnlyError

    tpc_vote = tpc_finish = store

    def tpc_begin(self, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG002 -- ignored
        """Raise `ReadOnlyError`, with advice for the case that a database has no root yet."""
        # When ZODB.DB is opened, it begins a transaction only to create the root object.
        try:
            load_current(self.__storage, z64)
        except KeyError:
            raise ReadOnlyError(
                f"{self.getName()} is a read-only secondary and has no root object yet:"
                " call its wait_until_caught_up(timeout) before you open a database; if"
                " the primary has no database, create it there"
            ) from None
        raise ReadOnlyError

    def tpc_abort(self, transaction: Any) -> None:
        """Do nothing: callers cannot begin transactions."""

    def __getattr__(self, name: str) -> Any:
        attribute = super().__getattr__(name)
        return self.store if name in _OPTIONAL_WRITING_METHODS else attribute


def _described_state(status: SecondaryStatus) -> str:
    last = status.get("last_error")  # unknown with a reactor
    return str(status["state"]) + ("" if last is None else f"; last error: {last['message']}")


def _no_blob(oid: bytes, serial: bytes, *_: object) -> NoReturn:
    """Raise `ZODB.interfaces.BlobError`: the file is not on this machine."""
    raise BlobError(
        f"the blob of object {oid_repr(oid)}, transaction {oid_repr(serial)}, is not"
        " available: this secondary does not replicate blobs (blobs none), and its"
        " storage has no blob directory"
    )


def _no_pack(*_: object, **__: object) -> NoReturn:
    """Raise `ZODB.interfaces.BlobError`: a pack would remove the primary's files."""
    raise BlobError(
        "a secondary that shares its blobs (blobs none) cannot be packed, because the"
        " primary and other secondaries need the files that would be removed; stop it,"
        " and `zrs pack` its Data.fs without --blob-dir"
    )


def _sink_of(storage: Any, blobs: Blobs) -> StorageSink:
    """Return a sink for the storage; raise `TypeError` or `ReadOnlyError` for others."""
    if not IStorageRestoreable.providedBy(storage):
        raise TypeError(
            f"{type(storage).__module__}.{type(storage).__qualname__} cannot restore"
            " transactions, which the storage of a secondary must support"
        )
    if storage.isReadOnly():
        raise ReadOnlyError(
            f"{storage.getName()} is read-only, so it cannot be the storage of a secondary"
        )
    if blobs == "all":
        return StorageSink(storage, direct_target(storage))
    return RecordSink(storage)
