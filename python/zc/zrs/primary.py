"""Primary storages: file storages that others can replicate from."""

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
"""How primaries write their messages' headers; ``"python2"`` for zc.zrs on Python 2 only."""

CLOSE_DEADLINE = 10.0

logger = logging.getLogger(__name__)


class TidTooHigh(Exception):  # noqa: N818 -- the name that users of zc.zrs know
    """A start was asked for that is later than the last transaction; its argument says which."""


class Primary(Replica):
    """A file storage that ships each committed transaction to the secondaries connected.

    It is used like the storage that it wraps, and closes it in the end. A path stands for
    a new `zc.zrs.filestorage.FileStorage`.

    :param addr: where to listen: ``(host, port)``, with an empty host for all IPv4
        addresses of the machine and port 0 for any free port, or the path of a UNIX socket
    :param reactor: an object with the interface of a Twisted reactor to use instead of
        our own threads
    :param wire_pickles: ``"python3"``, which every secondary but those on Python 2 alone
        can read, or ``"python2"``; by default `DEFAULT_WIRE_PICKLES`
    :param close_deadline: for how many seconds `close` lets the secondaries catch up
    :param missing_blobs: whether a blob whose file is missing ends the streams that come
        to it (``"stop"``), or is sent as a record alone (``"skip"``); it is an error in
        the log either way
    :param blobs: whether the files of blobs are sent (``"all"``), or only their records
        (``"none"``), which secondaries that share them by other means want; then these need
        not store blobs
    :param allow: the addresses and networks that may connect, such as ``"10.0.0.0/8"`` or
        ``"::1"``; None for all. Whoever connects to a UNIX socket is allowed
    :param max_connections: how many connections are taken at once, 1000 by default
    :param handshake_deadline: for how many seconds a connection may say nothing of where
        it wants to start, 30 by default
    :param ssl: the certificates and keys of encrypted connections
    :param status_address: where to serve the status by HTTP: a host, empty for this machine
        alone, and a port, 0 for any; None for nowhere. Storages of a process share an address
    :param unverified_history: what to do with a secondary whose last transaction is not in
        the history, where a pack may explain that but left no list of the transactions that
        it dropped: serve it (``"accept"``, with a warning, and ``"unverified"`` in the
        status), or refuse it as a fork (``"refuse"``)
    :param status_names: further names that clients may use for the status, such as that
        of a proxy; by default it answers to addresses and to this machine's names alone
    :param storage_name: the name of the storage among those that share a status address, and
        the label ``storage`` of its metrics; by default what the storage calls itself, usually
        the path of its file

    Raises `TypeError` for a storage without a Data.fs of its own, and `OSError` when the
    address cannot be had; a storage opened from a path is closed then. The options that say
    who may connect, and `ssl`, are a `ValueError` with a reactor, whose connections are the
    caller's business; so are certificates that cannot be used.
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
            raise ValueError(f"wire_pickles is 'python2' or 'python3', not {wire_pickles!r}")
        check_choice("missing_blobs", missing_blobs, "stop", "skip")
        check_choice("blobs", blobs, "all", "none")
        check_choice("unverified_history", unverified_history, "accept", "refuse")
        self.__addr = check_address(addr)
        options = _limits(allow, max_connections, handshake_deadline)
        if (files := files_of(ssl)) is not None:
            options["tls"] = files.read()
        if reactor is not None and options:
            raise ValueError(f"a reactor does not know of {' or '.join(options)}")
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
        # Without a reactor the server checks the place.
        return place, None if reactor is None else self.__feed.is_displaced

    def _end_replication(self) -> None:
        logger.info("Closing %s %s", self.__storage.getName(), self.__addr)
        self.__server.close(self.__close_deadline)

    @property
    def address(self) -> Address:
        """The address that secondaries connect to, with the port that was bound."""
        return self.__server.address

    def tpc_finish(
        self, transaction: Any, f: Callable[[bytes], object] | None = None
    ) -> bytes | None:
        """Finish the transaction, then let the secondaries have it."""
        try:
            tid: bytes | None = self.__storage.tpc_finish(transaction, f)
            self.__publish(tid or self.__storage.lastTransaction())
        except BaseException:
            # An interrupt may come when the transaction is durable already.
            self.__publish(self.__storage.lastTransaction())
            raise
        return tid

    def __publish(self, tid: bytes) -> None:
        self.__feed.publish(tid, self.__storage.getSize())

    def status(self) -> PrimaryStatus:
        """Return what the primary and its connections are at, as a plain dictionary.

        The documentation's page about the status says what is in it.
        """
        status: PlainPrimaryStatus = {**self.__server.status(), **super().status()}
        return cast("PrimaryStatus", status)

    def copyTransactionsFrom(self, other: Any, *args: Any) -> None:
        """Copy all transactions of another storage, in a way that replicates them."""
        # The storage's own method would commit past our tpc_finish.
        if ZODB.interfaces.IBlobStorage.providedBy(self):
            ZODB.blob.copyTransactionsFromTo(other, self)
        else:
            copy(other, self, *args)


def replicated(primary: Primary) -> tuple[Any, _zrs.Feed]:
    """Return the storage that a primary wraps, and the feed that ships its transactions.

    For a secondary that applies to the storage without calling the primary, and publishes
    what it has applied.
    """
    # Primary has no public attributes of its own: its storage's must stay visible.
    return primary._Primary__storage, primary._Primary__feed  # noqa: SLF001


def _limits(
    allow: Iterable[str] | None, max_connections: int | None, handshake_deadline: float | None
) -> dict[str, Any]:
    """Return the options that are given; raise `TypeError` for a text that is no list."""
    if isinstance(allow, str):
        raise TypeError(f"allow is a list of addresses and networks, not {allow!r}")
    limits = {
        "allow": None if allow is None else [str(network) for network in allow],
        "max_connections": max_connections,
        "handshake_deadline": handshake_deadline,
    }
    return {name: value for name, value in limits.items() if value is not None}


def _feed_of(
    storage: Any, missing_blobs: MissingBlobs | None, *, refuse_unverified: bool
) -> _zrs.Feed:
    """Return the feed of a storage's transactions, those that it has to begin with.

    Without `missing_blobs` no files of blobs are sent.

    Raises `TypeError` for a storage that cannot be replicated.
    """
    if getattr(storage, "setReplicationAddress", None) is not None:
        raise TypeError(
            "a primary of a secondary would ship nothing: make a secondary of a primary"
        )
    path = data_path(storage)
    last, end = storage.lastTransaction(), storage.getSize()
    # A wrapper's class lies about itself; what it wraps is not looked for.
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
