"""Whether the path of a storage still leads to the file that the storage has open.

The native storage checks this itself. ZODB's is queried for its open file, which may briefly be
another one during a pack.
"""

import logging
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ZODB.POSException import StorageSystemError

from zc.zrs import _zrs
from zc.zrs.storages.wrapper import StorageWrapper

CHECK_INTERVAL = 1.0

Held = tuple[int, int, bool]
"""Device and inode number of an open file, and whether a pack may be replacing it."""


def held_by(storage: Any) -> Callable[[], Held | None]:
    """Return a function that identifies the open file of ZODB's storage, or returns None."""
    found = weakref.ref(storage)

    def held() -> Held | None:
        storage = found()
        try:
            opened = os.fstat(storage._file.fileno())  # type: ignore[union-attr]  # noqa: SLF001
        except (AttributeError, OSError, ValueError):
            return None
        packing = bool(getattr(storage, "_pack_is_in_progress", True))
        return opened.st_dev, opened.st_ino, packing

    return held


class FilePlace:
    """Compares the file that a storage has open with the file at its path.

    Only native storages and those of ZODB are checked. A primary in a secondary checks its own
    storage.
    """

    def __init__(self, storage: Any, logger: logging.Logger) -> None:
        # A wrapper reports the class of the storage in it, which is not checked here.
        self._ours = issubclass(type(storage), _zrs.FileStorageBase)
        self._storage = weakref.ref(storage)
        name = (
            None
            if isinstance(storage, StorageWrapper)
            else getattr(storage, "_file_name", None)
        )
        self._path = name if name is None else str(Path(name).absolute())
        self._held = held_by(storage)
        self._logger = logger
        self._displaced = False
        self._looking = threading.Lock()

    def check(self) -> None:
        """Raise `StorageSystemError` if another file is at the path, or none.

        Raises `OSError` if the path cannot be checked.
        """
        storage = self._storage()
        if storage is None:
            return
        if self._ours:
            storage._check_place()  # noqa: SLF001 -- our own storage's
            return
        before = self._held()
        while before is not None and self._path is not None:
            try:
                found = Path(self._path).stat()
                if (found.st_dev, found.st_ino) == before[:2]:
                    return
            except FileNotFoundError:
                pass
            # A pack may have replaced the file in the meantime.
            after = self._held()
            if after is None or after[2]:
                return
            if after == before:
                raise StorageSystemError(
                    f"{self._path}: this is not the file that the storage has open, which was"
                    " removed or replaced by another; stop the server before its file is"
                    " exchanged"
                )
            before = after

    def is_displaced(self) -> bool:
        """Return whether another file is at the path, or none; log it the first time."""
        with self._looking:
            try:
                self.check()
            except StorageSystemError as error:
                if not self._displaced:
                    self._logger.critical("%s", error)
                self._displaced = True
            except (OSError, ValueError):
                pass  # the path cannot be checked now, or the storage is closed
            else:
                self._displaced = False
            return self._displaced


class _RegularChecks:
    """Calls functions every second, in a thread that runs while there are any."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._checks: list[Callable[[], object]] = []
        self._running = False

    def add(self, check: Callable[[], object]) -> None:
        with self._changed:
            self._checks.append(check)
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="zrs file places", daemon=True).start()

    def remove(self, check: Callable[[], object]) -> None:
        with self._changed:
            if check in self._checks:
                self._checks.remove(check)
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait(CHECK_INTERVAL)
                if not self._checks:
                    self._running = False
                    return
                checks = list(self._checks)
            for check in checks:
                check()


_checks = _RegularChecks()


def check_regularly(check: Callable[[], object]) -> Callable[[], None]:
    """Call a function, which must not raise, every second; return a function that stops this.

    A forked child does not call it.
    """
    checks = _checks
    checks.add(check)
    return lambda: checks.remove(check)


def _after_fork() -> None:
    # The child does not have the thread, which may have held the lock.
    global _checks  # noqa: PLW0603 -- one for the process
    _checks = _RegularChecks()


os.register_at_fork(after_in_child=_after_fork)
