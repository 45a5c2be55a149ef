"""ZODB's storage tests on a primary with a secondary attached over TCP.

After each test the secondary's file is compared with the primary's: byte for byte or, if the
test packs, for the data that the primary still has.
"""

# ZODB's test classes have no annotations.
# mypy: disallow-subclassing-any=False

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ZODB.tests import RecoveryStorage, StorageTestBase, testFileStorage
from ZODB.utils import p64, u64

from conformance.naming import collectable
from conformance.replicated import Replication
from conformance.split import SplitStorage

if TYPE_CHECKING:
    from pathlib import Path


@collectable
class TestPrimary(testFileStorage.FileStorageTests):
    """ZODB's tests of its FileStorage, run on a primary."""

    # Breaks the private pool of ZODB's class to show that testFlushAfterTruncate fails then.
    testFlushNeededAfterTruncate = checkFlushNeededAfterTruncate = None

    def open(self, **options: Any) -> None:
        if not hasattr(self, "replication"):
            self.replication = self.make_replication()
        self._storage = self.wrap(self.replication.open(**options))

    def make_replication(self) -> Replication:
        return Replication("FileStorageTests.fs")

    def wrap(self, primary: Any) -> Any:
        """Return the storage to test."""
        return primary

    def _new_storage_client(self) -> SplitStorage:
        # Primaries have no reader class of their own; the split storage is the closest.
        assert self.replication.secondary is not None
        return SplitStorage(self.replication.primaries[-1], self.replication.secondary)

    def _close(self) -> None:
        if self._testMethodName == "testCorruptionInPack":
            undo_corruption(self.replication.path)
        self.replication.finish()


def undo_corruption(path: Path) -> None:
    """Restore the length of the last transaction, which the test decremented."""
    with path.open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        length = u64(file.read(8))
        file.seek(-8, os.SEEK_END)
        file.write(p64(length + 1))


@collectable
class TestPrimaryRecovery(StorageTestBase.StorageTestBase, RecoveryStorage.RecoveryStorage):
    """Copying from one primary to another, each with a secondary."""

    def setUp(self) -> None:
        super().setUp()
        self.source, self.target = Replication("Source.fs"), Replication("Dest.fs")
        self._storage = self.source.open(create=True)
        self._dst = self.target.open(create=True)

    def _close(self) -> None:
        try:
            self.target.finish()
        finally:
            self.source.finish()
