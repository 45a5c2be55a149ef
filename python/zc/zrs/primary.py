"""Primary storages: file storages from which secondaries replicate."""

import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import ZODB.blob
import ZODB.interfaces
from ZODB.BaseStorage import copy
from ZODB.blob import is_blob_record

from zc.zrs import _zrs
from zc.zrs.iterator import FileStorageIterator, ScanControl, data_path
from zc.zrs.status.schema import PlainPrimaryStatus, PrimaryStatus
from zc.zrs.storages.file_place import FilePlace, held_by
from zc.zrs.storages.replica import PlaceCheck, Replica
from zc.zrs.storages.self_report import SelfReport
from zc.zrs.storages.wrapper import check_choice
from zc.zrs.system.address import Address, check_address
from zc.zrs.tls import TLSFiles, files_of
from zc.zrs.twisted_driver import driver as twisted_driver
from zc.zrs.twisted_driver.primary import PrimaryFactory

__all__ = [
    "DEFAULT_WIRE_PICKLES",
    "FileStorageIterator",
    "MissingBlobs",
    "Primary",
    "PrimaryFactory",
    "ScanControl",
    "TidTooHigh",
    "WirePickles",
    "is_blob_record",
]

WirePickles = Literal["python2", "python3"]
MissingBlobs = Literal["stop", "skip"]
Blobs = Literal["all", "none"]
UnverifiedHistory = Literal["accept", "refuse"]

DEFAULT_WIRE_PICKLES: WirePickles = "python3"
"""The pickle dialect of message headers; ``"python2"`` is only for zc.zrs on Python 2."""

CLOSE_DEADLINE = 10.0

logger = logging.getLogger(__name__)


class TidTooHigh(Exception):  # noqa: N818 -- the name that users of zc.zrs know
    """The requested start, in the argument, is later than the last transaction."""


class Primary(Replica):
    """A file storage that sends each committed transaction to the connected secondaries.

    It is used like the storage that it wraps, and closes that storage when it is closed. A
    path is opened as a new `zc.zrs.filestorage.FileStorage`.

    :param addr: address on which to listen: ``(host, port)``, with an empty host for all IPv4
        addresses of the machine and port 0 for any free port, or the path of a UNIX socket
    :param reactor: an object with the interface of a Twisted reactor, which is used instead of
        threads of this package
    :param wire_pickles: pickle dialect of message headers: ``"python3"``, or ``"python2"`` if
        a secondary runs on Python 2; the default is `DEFAULT_WIRE_PICKLES`
    :param close_deadline: maximum seconds for which `close` waits for secondaries to catch up
    :param missing_blobs: what to do if the file of a blob is missing: ``"stop"`` ends each
        stream that reaches the blob, ``"skip"`` sends only the record; both log an error
    :param blobs: ``"all"`` to send the files of blobs, ``"none"`` to send only their records;
        with ``"none"``, for secondaries that share the files, secondaries do not have to store
        blobs
    :param allow: addresses and networks that may connect, such as ``"10.0.0.0/8"`` or
        ``"::1"``; None for all. Connections to a UNIX socket are always allowed
    :param max_connections: maximum number of concurrent connections; the default is 1000
    :param handshake_deadline: connections that have not completed the handshake within this
        number of seconds are dropped; the default is 30
    :param ssl: certificates and keys for encrypted connections
    :param status_address: address on which to serve the status over HTTP: a host, empty for
        this machine only, and a port, 0 for any free port; None for no status server. Storages
        of a process can share an address
    :param unverified_history: what to do with a secondary whose last transaction is not in the
        history, if it may have been removed by a pack that left no list of the removed
        transactions: ``"accept"`` serves the secondary, logs a warning, and reports
        ``"unverified"`` in the status; ``"refuse"`` treats it as a fork
    :param status_names: additional host names by which clients reach the status, such as that
        of a proxy; by default only IP addresses and names of this machine are accepted
    :param storage_name: name of the storage among those that share a status address, and value
        of the label ``storage`` of its metrics; the default is the storage's own name, usually
        the path of its file

    Raises `TypeError` for a storage without a Data.fs of its own, and `OSError` if the address
    cannot be bound; a storage opened from a path is then closed. Raises `ValueError` for
    certificates that cannot be used, and if `reactor` is combined with `ssl` or with an option
    that restricts connections, because the caller controls the connections of a reactor.
    """

    def __init__(  # noqa: PLR0913 -- options are keywords
        self,
        storage_or_path: Any,
        addr: Address,
        reactor: Any = None,
        *,
        wire_pickles: WirePickles | None = None,
        close_deadline: float = CLOSE_DEADLINE,
        missing_blobs: MissingBlobs = "stop",
        blobs: Blobs = "all",
        allow: Iterable[str] | None = None,
        max_connections: int | None = None,
        handshake_deadline: float | None = None,
        ssl: TLSFiles | Mapping[str, Any] | None = None,
        status_address: Address | None = None,
        unverified_history: UnverifiedHistory = "accept",
        status_names: Iterable[str] = (),
        storage_name: str | None = None,
    ) -> None:
        wire_pickles = wire_pickles or DEFAULT_WIRE_PICKLES
        if wire_pickles not in ("python2", "python3"):
            raise ValueError(
                f"wire_pickles must be 'python2' or 'python3', not {wire_pickles!r}"
            )
        check_choice("missing_blobs", missing_blobs, "stop", "skip")
        check_choice("blobs", blobs, "all", "none")
        check_choice("unverified_history", unverified_history, "accept", "refuse")
        self.__addr = check_address(addr)
        options = _limits(allow, max_connections, handshake_deadline)
        if (files := files_of(ssl)) is not None:
            options["tls"] = files.read()
        if reactor is not None and options:
            raise ValueError(f"{' or '.join(options)} cannot be combined with a reactor")
        self.__close_deadline = close_deadline
        super().__init__(
            "primary",
            storage_or_path,
            functools.partial(
                self.__begin,
                reactor,
                wire_pickles,
                options,
                missing_blobs=missing_blobs if blobs == "all" else None,
                refuse_unverified=unverified_history == "refuse",
            ),
            SelfReport(status_address, status_names, storage_name),
            logger,
            has_own_blobs=blobs == "all",
        )

    def __begin(  # noqa: PLR0913 -- the driver's options
        self,
        reactor: Any,
        wire_pickles: WirePickles,
        options: dict[str, Any],
        storage: Any,
        *,
        missing_blobs: MissingBlobs | None,
        refuse_unverified: bool,
    ) -> tuple[FilePlace, PlaceCheck | None]:
        self.__storage = storage
        self.__feed = _feed_of(storage, missing_blobs, refuse_unverified=refuse_unverified)
        place = FilePlace(storage, logger)
        logger.info("Opening %s %s", storage.getName(), self.__addr)
        self.__server: _zrs.PrimaryServer | twisted_driver.TwistedServer
        if reactor is None:
            self.__server = _zrs.PrimaryServer(
                self.__feed, self.__addr, wire_pickles, **options
            )
        else:
            self.__server = twisted_driver.listen(
                reactor, self.__addr, self.__feed, wire_pickles
            )
        # Without a reactor, the native server checks the file's place.
        return place, None if reactor is None else self.__feed.is_displaced

    def _end_replication(self) -> None:
        logger.info("Closing %s %s", self.__storage.getName(), self.__addr)
        self.__server.close(self.__close_deadline)

    @property
    def address(self) -> Address:
        """The address on which the primary listens, with the port that was bound."""
        return self.__server.address

    def tpc_finish(
        self, transaction: Any, f: Callable[[bytes], object] | None = None
    ) -> bytes | None:
        """Finish the transaction, then send it to the secondaries."""
        try:
            tid: bytes | None = self.__storage.tpc_finish(transaction, f)
            self.__publish(tid or self.__storage.lastTransaction())
        except BaseException:
            # An interrupt may arrive when the transaction is already durable.
            self.__publish(self.__storage.lastTransaction())
            raise
        return tid

    def __publish(self, tid: bytes) -> None:
        self.__feed.publish(tid, self.__storage.getSize())

    def status(self) -> PrimaryStatus:
        """Return the state of the primary and its connections as a dictionary.

        The page "Status" of the documentation describes the keys.
        """
        status: PlainPrimaryStatus = {**self.__server.status(), **super().status()}
        return cast("PrimaryStatus", status)

    def copyTransactionsFrom(self, other: Any, *args: Any) -> None:
        """Copy all transactions of another storage; they are replicated like commits."""
        # The storage's own method would bypass this class's tpc_finish.
        if ZODB.interfaces.IBlobStorage.providedBy(self):
            ZODB.blob.copyTransactionsFromTo(other, self)
        else:
            copy(other, self, *args)


def replicated(primary: Primary) -> tuple[Any, _zrs.Feed]:
    """Return the storage that a primary wraps, and the feed of its transactions.

    For a secondary that applies transactions to the storage directly, and then publishes them.
    """
    # Primary has no public attributes for these, which would hide attributes of its storage.
    return primary._Primary__storage, primary._Primary__feed  # noqa: SLF001


def _limits(
    allow: Iterable[str] | None, max_connections: int | None, handshake_deadline: float | None
) -> dict[str, Any]:
    """Return the options that are given; raise `TypeError` for text instead of a list."""
    if isinstance(allow, str):
        raise TypeError(f"allow must be a list of addresses and networks, not {allow!r}")
    limits = {
        "allow": None if allow is None else [str(network) for network in allow],
        "max_connections": max_connections,
        "handshake_deadline": handshake_deadline,
    }
    return {name: value for name, value in limits.items() if value is not None}


def _feed_of(
    storage: Any, missing_blobs: MissingBlobs | None, *, refuse_unverified: bool
) -> _zrs.Feed:
    """Return the feed of a storage's transactions, starting with the existing ones.

    Without `missing_blobs` no files of blobs are sent.

    Raises `TypeError` for a storage that cannot be replicated.
    """
    if getattr(storage, "setReplicationAddress", None) is not None:
        raise TypeError(
            "a primary cannot wrap a secondary: wrap a primary in a secondary instead"
        )
    path = data_path(storage)
    last, end = storage.lastTransaction(), storage.getSize()
    # `type`, because a wrapper reports the class of its storage; wrapped storages do not count.
    ours = storage if issubclass(type(storage), _zrs.FileStorageBase) else None
    held = None if ours is not None else held_by(storage)
    if missing_blobs is None or not ZODB.interfaces.IBlobStorage.providedBy(storage):
        return _zrs.Feed(
            path, last, end, storage=ours, held=held, refuse_unverified=refuse_unverified
        )
    blobs = storage.fshelper
    blob_dir = str(Path(blobs.base_dir).absolute())
    return _zrs.Feed(
        path,
        last,
        end,
        blob_dir,
        blobs.layout_name,
        missing_blobs,
        storage=ours,
        held=held,
        refuse_unverified=refuse_unverified,
    )
