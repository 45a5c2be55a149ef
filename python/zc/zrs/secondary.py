"""Secondary storages: read-only copies that follow a primary storage."""

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
from zc.zrs.primary import Blobs, Primary
from zc.zrs.status.lag_record import LagRecord, is_settled_quiet
from zc.zrs.status.schema import PlainSecondaryStatus, SecondaryStatus
from zc.zrs.status.states import unhandled
from zc.zrs.storages.direct import direct_target
from zc.zrs.storages.file_place import FilePlace
from zc.zrs.storages.replica import PlaceCheck, Replica
from zc.zrs.storages.self_report import SelfReport
from zc.zrs.storages.sink import RecordSink, StorageSink
from zc.zrs.storages.wrapper import check_choice
from zc.zrs.system.address import Address, address_to_connect, check_address, check_addresses
from zc.zrs.tls import TLSFiles, files_of
from zc.zrs.twisted_driver import driver as twisted_driver
from zc.zrs.twisted_driver.secondary import SecondaryFactory

__all__ = ["Secondary", "SecondaryFactory"]

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 0.05

# Methods that only some storages have; those of every storage are Secondary's own.
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
    """A storage that applies what a primary ships, and is read-only otherwise.

    It closes the storage that it wraps in the end. A path stands for a new
    `zc.zrs.filestorage.FileStorage`. Packing is allowed: primaries do not replicate packs.

    :param addr: the primary's ``(host, port)``, with an empty host for this machine, or
        the path of its UNIX socket; or a list of such addresses, of which any will do.
        An empty list waits for `setReplicationAddresses`.
    :param reactor: an object with the interface of a Twisted reactor to use instead of
        our own threads
    :param reconnect_delay: the most seconds to wait before trying to connect again; the
        first attempts come after a second, two and so on
    :param check_checksums: False accepts primaries that send none (before zc.zrs 2.0.3)
    :param keep_alive_delay: seconds between messages that keep the connection alive,
        0 for none
    :param blobs: whether the files of blobs are replicated (``"all"``), or only their
        records (``"none"``), for blobs on storage that all machines share; a storage without
        blobs then raises `ZODB.interfaces.BlobError` for each that is asked for, one with
        blobs when it is packed, which would remove the primary's. A new FileStorage with a
        `blob_dir` of ZODB's empties that: make its file before, without `blob_dir`
    :param ssl: the certificates and keys of an encrypted connection; not with a reactor
    :param status_address: where to serve the status by HTTP: a host, empty for this machine
        alone, and a port, 0 for any; None for nowhere. Storages of a process share an address
    :param status_names: further names that clients may use for the status, such as that
        of a proxy; by default it answers to addresses and to this machine's names alone
    :param storage_name: the name of the storage among those that share a status address, and
        the label ``storage`` of its metrics; by default what the storage calls itself, usually
        the path of its file
    :param node_name: the name by which the primary knows this secondary in its status and
        metrics, 1 to 64 letters, digits, dots, hyphens and underscores; by default its address.
        Not with a reactor

    Raises `TypeError` for a storage that cannot restore transactions, and `ValueError` for
    certificates that cannot be used, `OSError` when the status's address cannot be had.
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
            raise ValueError("a reactor does not know of ssl")
        if reactor is not None and node_name is not None:
            raise ValueError("a reactor does not know of node_name")
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
        """Follow the primary at another address from now on."""
        self.__addr = check_address(addr)
        self.__client.set_address(address_to_connect(self.__addr))

    def setReplicationAddresses(self, addrs: list[Address], *, stay: bool = False) -> None:
        """Follow a primary at any of these addresses from now on, at none if there is none.

        A connection to one of them stays as it is. With an empty list and `stay`, the present
        connection is kept until it ends, and is not made again.
        """
        self.__addr = addrs
        self.__client.set_addresses(
            [address_to_connect(addr) for addr in check_addresses(addrs)], stay
        )

    def status(self) -> SecondaryStatus:
        """Return what the secondary is at, as a plain dictionary.

        The documentation's page about the status says what is in it. A secondary of a primary has the primary's own
        as ``primary``. ``caught_up`` tells whether a status since the secondary was opened
        found that it follows its primary and lacks nothing.
        """
        client = self.__client.status()
        # Outside the lock, because the storage may be slow to answer.
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
        """Wait until the secondary follows its primary and lacks nothing that it knows of.

        Nor does it lack anything if the primary may be one that does not say how far it is, and
        has said nothing on the connection for 30 seconds.
        A database can be opened then on a secondary that was empty, if the primary's is not.

        :param timeout: how many seconds to wait at most; None for no limit

        Raises `TimeoutError` if that takes longer than `timeout`, and
        `ZODB.POSException.StorageError` if waiting is useless: the primary has another history,
        the secondary is closed, or it has a reactor and so does not know whether it follows.
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
                case "quiet" if is_settled_quiet(state, caught_up=caught_up, lag=lag):
                    return
                case "stopped":
                    raise StorageError(f"{self.getName()} was closed")
                case "diverged":
                    raise StorageError(f"{self.getName()} cannot catch up: {why}")
                case "streaming":
                    raise StorageError("a secondary with a reactor does not know if it follows")
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
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def registerDB(self, db: Any) -> None:
        """Tell `db` of the objects that each replicated transaction changes."""
        self.__storage.registerDB(db)
        self.__sink.register(db)

    def isReadOnly(self) -> bool:
        """Return True: only the primary writes."""
        return True

    def new_oid(self) -> NoReturn:
        """Raise `ReadOnlyError`."""
        raise ReadOnlyError

    def store(self, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG002 -- whatever they are
        """Raise `ReadOnlyError`."""
        raise ReadOnlyError

    tpc_vote = tpc_finish = store

    def tpc_begin(self, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG002 -- as for store
        """Raise `ReadOnlyError`, which says what to do where a database has no root yet."""
        # ZODB.DB begins a transaction when it is opened only to make the root object.
        try:
            load_current(self.__storage, z64)
        except KeyError:
            raise ReadOnlyError(
                f"{self.getName()} is a secondary, which is read-only, and has no root object"
                " yet: call its wait_until_caught_up(timeout) before you open a database, and"
                " create the database at the primary if it has none"
            ) from None
        raise ReadOnlyError

    def tpc_abort(self, transaction: Any) -> None:
        """Do nothing: no transaction of a caller's was ever begun."""

    def __getattr__(self, name: str) -> Any:
        attribute = super().__getattr__(name)
        return self.store if name in _OPTIONAL_WRITING_METHODS else attribute


def _described_state(status: SecondaryStatus) -> str:
    last = status.get("last_error")  # unknown with a reactor
    return str(status["state"]) + ("" if last is None else f"; last error: {last['message']}")


def _no_blob(oid: bytes, serial: bytes, *_: object) -> NoReturn:
    """Raise `ZODB.interfaces.BlobError`: the file is elsewhere."""
    raise BlobError(
        f"the blob of object {oid_repr(oid)}, transaction {oid_repr(serial)}, is not here:"
        " this secondary replicates no blobs (blobs none), and its storage has none"
    )


def _no_pack(*_: object, **__: object) -> NoReturn:
    """Raise `ZODB.interfaces.BlobError`: a pack would remove files that are not ours."""
    raise BlobError(
        "a secondary that shares its blobs (blobs none) cannot be packed: the primary and"
        " others need the files that would go; stop it, and `zrs pack` its Data.fs without"
        " --blob-dir"
    )


def _sink_of(storage: Any, blobs: Blobs) -> StorageSink:
    """Return what writes to the storage; raise `TypeError` or `ReadOnlyError` if none can."""
    if not IStorageRestoreable.providedBy(storage):
        raise TypeError(
            f"{type(storage).__module__}.{type(storage).__qualname__} cannot restore"
            " transactions, which a secondary's storage must"
        )
    if storage.isReadOnly():
        raise ReadOnlyError(f"{storage.getName()} is read-only, so nothing replicates into it")
    if blobs == "all":
        return StorageSink(storage, direct_target(storage))
    return RecordSink(storage)
