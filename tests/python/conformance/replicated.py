"""Replicated storages for ZODB's test classes, and the comparison after each test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ZODB.FileStorage

from replicas.comparison import assert_at_least, assert_identical, assert_same_for_applications
from replicas.transactions import read_transactions
from replicas.waiting import wait_until
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary

LOOPBACK = ("127.0.0.1", 0)
RECONNECT_DELAY = 0.05


class PackCountingFileStorage(ZODB.FileStorage.FileStorage):  # type: ignore[misc]
    """ZODB's file storage; it knows whether it was packed."""

    packs = 0

    def pack(self, *args: Any, **options: Any) -> None:
        self.packs += 1
        super().pack(*args, **options)


class Replication:
    """A primary's Data.fs, opened again and again, with a secondary that stays.

    `options` are those of ZODB's FileStorage.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self.copy = self.path.with_name(f"secondary-of-{self.path.name}")
        self.primaries: list[Primary] = []
        self.file_storages: list[PackCountingFileStorage] = []
        self.copy_storage: PackCountingFileStorage | None = None
        self.secondary: Secondary | None = None

    def open(self, **options: Any) -> Primary:
        """Open the Data.fs as a primary, and have the secondary follow it."""
        file_storage = PackCountingFileStorage(str(self.path), **options)
        primary = Primary(file_storage, LOOPBACK)
        self.file_storages.append(file_storage)
        self.primaries.append(primary)
        if self.secondary is None:
            self.copy_storage = PackCountingFileStorage(str(self.copy))
            self.secondary = Secondary(
                self.copy_storage, primary.address, reconnect_delay=RECONNECT_DELAY
            )
        else:
            self.secondary.setReplicationAddress(primary.address)
        return primary

    @property
    def packed(self) -> bool:
        """Whether the primary's data were packed."""
        return any(storage.packs for storage in self.file_storages)

    def wait(self) -> Secondary:
        """Wait until the secondary has all transactions of the primary's file."""
        secondary = self.secondary
        assert secondary is not None
        transactions = read_transactions(self.path)
        last = transactions[-1].tid if transactions else bytes(8)
        wait_until(lambda: secondary.lastTransaction() >= last, "the secondary catches up")
        return secondary

    def finish(self) -> None:
        """Bring the secondary up to date, and fail unless it holds what the primary does."""
        if self.primaries[-1]._file.closed:
            # The test has closed its storage, maybe before the secondary could connect.
            self.open()
        try:
            self.wait()
        finally:
            for primary in self.primaries:
                primary.close()
            if self.secondary is not None:
                self.secondary.close()
        self.compare()

    def compare(self) -> None:
        """Fail unless the secondary's file is right beside the primary's."""
        if self.copy_storage is not None and self.copy_storage.packs:
            assert_same_for_applications(self.path, self.copy)
        elif self.packed:
            assert_at_least(self.path, self.copy)
        else:
            assert_identical(self.path, self.copy)
