"""Replicated storages for ZODB's test classes, and the comparison after each test."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import ZODB.FileStorage

from replicas.comparison import assert_at_least, assert_identical, assert_same_for_applications
from replicas.transactions import read_transactions
from replicas.waiting import wait_until
from zc.zrs.filestorage import FileStorage
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary

LOOPBACK = ("127.0.0.1", 0)
RECONNECT_DELAY = 0.05


class Watched:
    """Makes a file storage record whether it was packed or closed."""

    packs = 0
    closed = False

    def pack(self, *args: Any, **options: Any) -> None:
        self.packs += 1
        super().pack(*args, **options)  # type: ignore[misc]

    def close(self) -> None:
        super().close()  # type: ignore[misc]
        self.closed = True


class WatchedFileStorage(Watched, FileStorage):
    """Our file storage."""


class WatchedReference(Watched, ZODB.FileStorage.FileStorage):  # type: ignore[misc]
    """ZODB's."""


class Replication:
    """A primary's Data.fs that is reopened, with a secondary that stays open.

    `storage_class` is the class of both storages. With a `blob_layout` they have blob
    directories too.
    """

    def __init__(
        self,
        path: str | Path,
        storage_class: type = WatchedFileStorage,
        blob_layout: Literal["bushy", "lawn"] | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        self.copy = self.path.with_name(f"secondary-of-{self.path.name}")
        self.storage_class = storage_class
        self.blob_layout = blob_layout
        self.primaries: list[Primary] = []
        self.file_storages: list[Any] = []
        self.copy_storage: Any = None
        self.secondary: Secondary | None = None

    def open(self, **options: Any) -> Primary:
        """Open the Data.fs as a primary, and let the secondary follow it.

        `options` are those of ZODB's FileStorage.
        """
        file_storage = self.open_file(self.path, **options)
        primary = Primary(file_storage, LOOPBACK)
        self.file_storages.append(file_storage)
        self.primaries.append(primary)
        if self.secondary is None:
            self.copy_storage = self.open_file(self.copy)
            self.secondary = Secondary(
                self.copy_storage, primary.address, reconnect_delay=RECONNECT_DELAY
            )
        else:
            self.secondary.setReplicationAddress(primary.address)
        return primary

    def open_file(self, path: Path, **options: Any) -> Any:
        """Return a storage in this file, with a blob directory if required."""
        if self.blob_layout and "blob_dir" not in options:
            options["blob_dir"] = str(self.blob_dir(path))
        if self.blob_layout == "lawn" and not path.exists():
            # A new storage empties the directory; then this file determines the layout.
            self.storage_class(str(path)).close()
            self.blob_dir(path).mkdir()
            (self.blob_dir(path) / ".layout").write_text("lawn")
            options.pop("create", None)
        return self.storage_class(str(path), **options)

    @staticmethod
    def blob_dir(path: Path) -> Path:
        """Return the blob directory of the storage in this file."""
        return path.with_name(f"{path.name}.blobs")

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
        """Bring the secondary up to date, and fail unless it equals the primary."""
        if self.file_storages[-1].closed:
            # The test has closed its storage, possibly before the secondary could connect.
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
        """Fail unless the secondary's file is right, compared with the primary's."""
        if self.copy_storage is not None and self.copy_storage.packs:
            assert_same_for_applications(self.path, self.copy)
        elif self.packed:
            assert_at_least(self.path, self.copy)
        else:
            assert_identical(self.path, self.copy)
            assert self.blobs(self.copy) == self.blobs(self.path)

    def blobs(self, path: Path) -> dict[str, bytes]:
        """Return the committed blobs of the storage in this file."""
        top = self.blob_dir(path)
        return {str(file.relative_to(top)): file.read_bytes() for file in top.rglob("*.blob")}
