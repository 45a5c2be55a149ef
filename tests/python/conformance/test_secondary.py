"""ZODB's storage tests of reading, on a secondary.

The tests write through the primary and read from the secondary.
"""

# ZODB's test classes have no annotations.
# mypy: disallow-subclassing-any=False

from __future__ import annotations

from typing import Any

import pytest
from ZODB.POSException import ReadOnlyError
from ZODB.tests import (
    BasicStorage,
    ConflictResolution,
    HistoryStorage,
    IteratorStorage,
    MTStorage,
    PackableStorage,
    ReadOnlyStorage,
    RevisionStorage,
    StorageTestBase,
    TransactionalUndoStorage,
)

from conformance.naming import collectable
from conformance.replicated import Replication
from conformance.split import SplitStorage
from replicas.transactions import commit


@collectable
class TestSecondary(
    StorageTestBase.StorageTestBase,
    BasicStorage.BasicStorage,
    TransactionalUndoStorage.TransactionalUndoStorage,
    RevisionStorage.RevisionStorage,
    PackableStorage.PackableStorageWithOptionalGC,
    PackableStorage.PackableUndoStorage,
    ConflictResolution.ConflictResolvingStorage,
    ConflictResolution.ConflictResolvingTransUndoStorage,
    HistoryStorage.HistoryStorage,
    IteratorStorage.IteratorStorage,
    IteratorStorage.ExtendedIteratorStorage,
    MTStorage.MTStorage,
    ReadOnlyStorage.ReadOnlyStorage,
):
    """ZODB's tests of reading, of history, and of connections that see changes."""

    use_extension_bytes = True
    # Stops in the primary's tpc_finish, and expects readers to wait for it. Readers of a
    # secondary do not wait; test_following has tests for them.
    test_tid_ordering_w_commit = check_tid_ordering_w_commit = None

    def setUp(self) -> None:
        super().setUp()
        self.replication = Replication("FileStorageTests.fs")
        self.open(create=True)

    def open(self, *, read_only: bool = False, **options: Any) -> None:
        if read_only:
            self._storage: Any = self.replication.wait()
            return
        primary = self.replication.open(**options)
        assert self.replication.secondary is not None
        self._storage = SplitStorage(primary, self.replication.secondary)

    def _new_storage_client(self) -> SplitStorage:
        assert self.replication.secondary is not None
        return SplitStorage(self.replication.primaries[-1], self.replication.secondary)

    def _close(self) -> None:
        self.replication.finish()


def test_every_writing_method_of_a_secondary_is_refused(tmp_path: Any) -> None:
    replication = Replication(tmp_path / "Data.fs")
    primary = replication.open()
    tid = commit(primary, {0: b"data"})
    secondary = replication.wait()
    calls: dict[str, tuple[Any, ...]] = {
        "new_oid": (),
        "tpc_begin": (None,),
        "store": (bytes(8), tid, b"new", "", None),
        "restore": (bytes(8), tid, b"new", "", None, None),
        "tpc_vote": (None,),
        "tpc_finish": (None,),
        "undo": (b"", None),
        "deleteObject": (bytes(8), tid, None),
        "copyTransactionsFrom": (primary,),
    }
    for name, arguments in calls.items():
        with pytest.raises(ReadOnlyError):
            getattr(secondary, name)(*arguments)
    replication.finish()
