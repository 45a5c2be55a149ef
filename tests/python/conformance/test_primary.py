"""ZODB's storage tests on a primary with a secondary attached over TCP.

After each test the secondary's file is compared with the primary's: byte for byte, or
where the test packs, for what the primary still has.
"""

from __future__ import annotations

import os
import unittest
from pathlib import Path
from typing import Any

from ZODB.tests import (
    BasicStorage,
    ConflictResolution,
    HistoryStorage,
    IteratorStorage,
    MTStorage,
    PackableStorage,
    PersistentStorage,
    ReadOnlyStorage,
    RecoveryStorage,
    RevisionStorage,
    StorageTestBase,
    Synchronization,
    TransactionalUndoStorage,
    testFileStorage,
)
from ZODB.utils import p64, u64

from conformance.naming import collectable, zodb_tests
from conformance.replicated import Replication

MIXINS = (
    BasicStorage.BasicStorage,
    TransactionalUndoStorage.TransactionalUndoStorage,
    RevisionStorage.RevisionStorage,
    PackableStorage.PackableStorage,
    PackableStorage.PackableStorageWithOptionalGC,
    PackableStorage.PackableUndoStorage,
    Synchronization.SynchronizedStorage,
    ConflictResolution.ConflictResolvingStorage,
    ConflictResolution.ConflictResolvingTransUndoStorage,
    HistoryStorage.HistoryStorage,
    IteratorStorage.IteratorStorage,
    IteratorStorage.ExtendedIteratorStorage,
    PersistentStorage.PersistentStorage,
    MTStorage.MTStorage,
    ReadOnlyStorage.ReadOnlyStorage,
)


@collectable
class TestPrimary(testFileStorage.FileStorageTests):  # type: ignore[misc]
    """All that ZODB asks of its own FileStorage, asked of a primary."""

    def open(self, **options: Any) -> None:
        if not hasattr(self, "replication"):
            self.replication = Replication("FileStorageTests.fs")
        self._storage = self.replication.open(**options)

    def _close(self) -> None:
        if self._testMethodName == "testCorruptionInPack":
            undo_corruption(self.replication.path)
        self.replication.finish()


def undo_corruption(path: Path) -> None:
    """Give the last transaction back its length, which the test made one too small."""
    with path.open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        length = u64(file.read(8))
        file.seek(-8, os.SEEK_END)
        file.write(p64(length + 1))


@collectable
class TestPrimaryRecovery(  # type: ignore[misc]
    StorageTestBase.StorageTestBase, RecoveryStorage.RecoveryStorage
):
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


class TestCoverage(unittest.TestCase):
    """The classes above have every test of every mixin that they are to run."""

    def test_every_mixin_takes_part(self) -> None:
        for mixin in MIXINS:
            with self.subTest(mixin=mixin.__name__):
                self.assertTrue(zodb_tests(mixin))
                self.assertLessEqual(zodb_tests(mixin), zodb_tests(TestPrimary))
        self.assertTrue(zodb_tests(RecoveryStorage.RecoveryStorage))
        self.assertLessEqual(
            zodb_tests(RecoveryStorage.RecoveryStorage), zodb_tests(TestPrimaryRecovery)
        )
