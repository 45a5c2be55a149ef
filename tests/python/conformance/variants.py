"""ZODB's storage tests on variants of primaries; `make conformance` runs these.

The variants use ZODB's own file storage, storages on top that transform data, and blobs in both
layouts.
"""

# ZODB's test classes have no annotations.
# mypy: disallow-subclassing-any=False

from __future__ import annotations

import zlib
from typing import Any, ClassVar, Literal
from unittest.mock import patch

from ZODB.tests import hexstorage, testblob
from ZODB.tests.hexstorage import HexStorage

from conformance import test_primary
from conformance.naming import collectable
from conformance.replicated import Replication, WatchedReference

Layout = Literal["bushy", "lawn"]


@collectable
class TestOnZODBsFileStorage(test_primary.TestPrimary):
    """With the other engine."""

    def make_replication(self) -> Replication:
        return Replication("FileStorageTests.fs", WatchedReference)


class Bushy(test_primary.TestPrimary):
    """With blobs."""

    layout: ClassVar[Layout] = "bushy"

    def make_replication(self) -> Replication:
        return Replication("FileStorageTests.fs", blob_layout=self.layout)


@collectable
class TestBushy(Bushy):
    """With blobs in many directories."""


@collectable
class TestLawn(Bushy):
    """With blobs in the layout of ZODB 3.8."""

    layout = "lawn"


@collectable
class TestHex(test_primary.TestPrimary):
    """Below ZODB's example of a storage that transforms data."""

    def wrap(self, primary: Any) -> Any:
        return HexStorage(primary)


@collectable
class TestHexWithBlobs(Bushy):
    """The same, with blobs."""

    def wrap(self, primary: Any) -> Any:
        return HexStorage(primary)


@collectable
class TestCompressed(Bushy):
    """Below a storage that compresses data, as zc.zlibstorage does, with blobs."""

    def setUp(self) -> None:
        # ZODB's example with another transformation.
        patched = patch.multiple(hexstorage, hexlify=zlib.compress, unhexlify=zlib.decompress)
        patched.start()
        self.addCleanup(patched.stop)
        super().setUp()

    def wrap(self, primary: Any) -> Any:
        return HexStorage(primary)


class Blobs:
    """Makes the storages of ZODB's tests of blobs."""

    layout: ClassVar[Layout] = "bushy"

    def create_storage(self, name: str = "data") -> Any:
        replication = Replication(f"{name}.fs", blob_layout=self.layout)
        self.__dict__.setdefault("replications", []).append(replication)
        return self.wrap(replication.open(create=True))

    def wrap(self, primary: Any) -> Any:
        return primary

    def tearDown(self) -> None:
        for replication in self.__dict__["replications"]:
            replication.finish()
        super().tearDown()  # type: ignore[misc]


@collectable
class TestBlobUndo(Blobs, testblob.BlobUndoTests):
    """Undoing changes of blobs."""


@collectable
class TestBlobUndoLawn(TestBlobUndo):
    """The same in the other layout."""

    layout = "lawn"


@collectable
class TestBlobUndoHex(TestBlobUndo):
    """The same below a storage that transforms data."""

    def wrap(self, primary: Any) -> Any:
        return HexStorage(primary)


@collectable
class TestBlobRecovery(Blobs, testblob.RecoveryBlobStorage):
    """Copying blobs from one primary to another."""


@collectable
class TestBlobRecoveryLawn(TestBlobRecovery):
    """The same in the other layout."""

    layout = "lawn"
