"""The lifecycle of primaries and secondaries: opening, forks, status, packs, and closing once.

`Primary` and `Secondary` add the connections, on which this module must not depend.
"""

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any

from zc.zrs.status.schema import StorageStatus
from zc.zrs.status.states import Role
from zc.zrs.storages.file_place import FilePlace, check_regularly
from zc.zrs.storages.packing import Packer
from zc.zrs.storages.self_report import SelfReport
from zc.zrs.storages.wrapper import StorageWrapper, open_storage
from zc.zrs.system.address import Address
from zc.zrs.system.process import Owner

PlaceCheck = Callable[[], object]
"""Checks whether another file is at the path of the storage, and logs it."""


class Replica(StorageWrapper):
    """A wrapped storage that replicates from its construction until it is closed.

    If construction fails, everything opened before is closed; a storage that was passed in
    stays open.

    :param begin: connects the storage passed to it, as its last step; returns the place of the
        storage's file, and a function that checks it every second, None if the driver does
    :param report: reports on the storage, and is closed with it
    :param logger: logs packs that fail
    :param has_own_blobs: whether the blob directory is not shared with other machines
    """

    def __init__(  # noqa: PLR0913 -- only for subclasses
        self,
        role: Role,
        storage_or_path: Any,
        begin: Callable[[Any], tuple[FilePlace, PlaceCheck | None]],
        report: SelfReport,
        logger: logging.Logger,
        *,
        has_own_blobs: bool,
    ) -> None:
        with contextlib.ExitStack() as undo:
            undo.callback(report.close)
            storage, opened = open_storage(storage_or_path)
            if opened:
                undo.callback(storage.close)
            super().__init__(storage)
            place, check = begin(storage)
            undo.callback(self._end_replication)
            self.__storage = storage
            self.__report = report
            self.__packer = Packer(storage, place, logger)
            self.__owner = Owner()
            self.__closing = threading.Lock()
            self.__closed = False
            self.__stop_checking = None if check is None else check_regularly(check)
            if self.__stop_checking is not None:
                undo.callback(self.__stop_checking)
            undo.callback(report.unregister, self)
            # Last, because the status can be requested from now on.
            report.start(self, role, storage, has_own_blobs=has_own_blobs)
            undo.pop_all()

    def _end_replication(self) -> None:
        """Close all connections, and log that."""
        raise NotImplementedError

    @property
    def status_address(self) -> Address | None:
        """The status address, with the port that was bound; None without a status server."""
        return self.__report.address

    def status(self) -> StorageStatus:
        """Return the status of the wrapped storage."""
        return {**self.__report.facts(), "pack_error": self.__packer.failure}

    def pack(self, *args: Any, **options: Any) -> Any:
        """Pack the storage; primaries do not replicate packs.

        Raises the exceptions of its `pack`, and `ZODB.POSException.StorageSystemError` if
        another file has taken the place of the Data.fs.
        """
        return self.__packer.pack(*args, **options)

    def close(self) -> None:
        """Disconnect, and close the storage. A primary lets its secondaries catch up first.

        Does nothing the second time, or in a process forked from the one that opened the storage.
        """
        if not self.__owner.is_this_process():
            return
        with self.__closing:
            if self.__closed:
                return
            self.__closed = True
            self.__report.unregister(self)
            if self.__stop_checking is not None:
                self.__stop_checking()
            try:
                self._end_replication()
            finally:
                self.__report.close()
                self.__storage.close()
