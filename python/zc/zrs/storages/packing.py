"""Packs of the storages that primaries and secondaries wrap.

The status and one log line report a pack that fails. ZODB's storage gives up if a transaction
that was committed during the pack needs an object that the pack has dropped; then the pack is
started again.
"""

import contextlib
import logging
import threading
import time
from typing import Any

from ZODB.FileStorage.FileStorage import FileStorageError
from ZODB.FileStorage.fspack import PackError
from ZODB.POSException import ReadOnlyError

from zc.zrs.status.schema import Failure
from zc.zrs.storages.file_place import FilePlace
from zc.zrs.storages.wrapper import StorageWrapper

ATTEMPTS = 4


class Packer:
    """Packs one storage, and records the failure of the last pack."""

    def __init__(self, storage: Any, place: FilePlace, logger: logging.Logger) -> None:
        self._storage = storage
        self._place = place
        # A primary in a secondary reports its own packs.
        self._is_wrapper = isinstance(storage, StorageWrapper)
        self._logger = logger
        self._lock = threading.Lock()
        self._failure: Failure | None = None

    def pack(self, *args: Any, **options: Any) -> Any:
        """Pack the storage, with the arguments of its `pack`.

        Raises its exceptions, and `StorageSystemError` if another file is at the storage's
        path.
        """
        try:
            self._place.check()
            packed = self._pack_until_done(*args, **options)
        except (FileStorageError, ReadOnlyError):
            raise  # a mistake of the caller: another pack is running, or the time is invalid
        except Exception as error:
            self._failed(f"{type(error).__name__}: {error}")
            raise
        with self._lock:
            self._failure = None
        return packed

    def _failed(self, message: str) -> None:
        with self._lock:
            self._failure = {"time": time.time(), "message": message}
        if not self._is_wrapper:
            # Without the traceback, which the caller gets.
            self._logger.error("%s: packing failed: %s", self._storage.getName(), message)

    def _pack_until_done(self, *args: Any, **options: Any) -> Any:
        for _ in range(ATTEMPTS - 1):
            with contextlib.suppress(PackError):
                return self._storage.pack(*args, **options)
            self._logger.info(
                "%s: transactions committed during the pack need data that it dropped;"
                " packing again",
                self._storage.getName(),
            )
        return self._storage.pack(*args, **options)

    @property
    def failure(self) -> Failure | None:
        """When and why the last pack failed; None if it succeeded, or there was none."""
        with self._lock:
            return self._failure
