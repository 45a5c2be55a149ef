"""The zodburi resolver for ``zrsfile://``, found by zodburi through its entry point."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import pytest
import ZODB
import zodburi
from persistent.mapping import PersistentMapping
from ZODB.blob import BlobStorage
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage.FileStorage import FileStorageQuotaError
from ZODB.interfaces import IBlobStorage
from ZODB.POSException import ReadOnlyError

from zc.zrs.filestorage import FileStorage
from zc.zrs.resolver import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def closing() -> Iterator[Callable[[Any], Any]]:
    """Provide a function that registers objects to be closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda opened: stack.enter_context(contextlib.closing(opened))


def test_a_storage_and_a_database(tmp_path: Path, closing: Any) -> None:
    uri = f"zrsfile://{tmp_path}/sub/../Data.fs?database_name=x&connection_pool_size=3"
    factory, options = zodburi.resolve_uri(uri)
    assert not list(tmp_path.iterdir())
    storage = factory()
    database = closing(ZODB.DB(storage, **options))
    assert type(storage) is FileStorage
    assert storage.getName() == f"{tmp_path}/Data.fs"
    assert database.database_name == "x"
    assert database.getPoolSize() == 3
    with database.transaction() as connection:
        connection.root()["x"] = 1


def test_options(tmp_path: Path, closing: Any) -> None:
    uri = (
        f"zrsfile://{tmp_path}/Data.fs?quota=20kb&pack_gc=false&pack_keep_old=0"
        f"&blob_dir={tmp_path}/blobs&commit_sync=single"
    )
    factory, options = zodburi.resolve_uri(uri)
    storage = factory()
    database = closing(ZODB.DB(storage, **options))
    assert IBlobStorage.providedBy(storage)
    assert storage.blob_dir == f"{tmp_path}/blobs"
    assert not storage._pack_gc
    assert not storage.pack_keep_old
    with pytest.raises(FileStorageQuotaError), database.transaction() as connection:
        # No record may begin beyond the quota, as the last one would.
        connection.root()["long"] = [PersistentMapping(x="x" * 30_000) for _ in range(2)]


def test_create_and_read_only(tmp_path: Path, closing: Any) -> None:
    uri = f"zrsfile://{tmp_path}/Data.fs"
    factory, options = zodburi.resolve_uri(uri)
    ZODB.DB(factory(), **options).close()
    factory, _ = zodburi.resolve_uri(f"{uri}?read_only=true")
    storage = closing(factory())
    assert len(storage) == 1
    with pytest.raises(ReadOnlyError):
        storage.new_oid()
    factory, _ = zodburi.resolve_uri(f"{uri}?create=1")
    assert len(closing(factory())) == 0


def test_blobs_as_in_zodburi(tmp_path: Path, closing: Any) -> None:
    """As with ``file://``: a wrapper stores the blobs."""
    factory, _ = zodburi.resolve_uri(
        f"zrsfile://{tmp_path}/Data.fs?blobstorage_dir={tmp_path}/b&blobstorage_layout=lawn"
    )
    storage = closing(factory())
    assert isinstance(storage, BlobStorage)
    assert (tmp_path / "b" / ".layout").read_text().strip() == "lawn"


def test_a_uri_may_have_gone_through_urllib(tmp_path: Path) -> None:
    uri = f"zrsfile://{tmp_path}/Data.fs?pack_gc=false"
    # Some versions of Python omit the empty host.
    for written in urlunsplit(urlsplit(uri)), f"zrsfile:{tmp_path}/Data.fs?pack_gc=false":
        factory, _ = zodburi.resolve_uri(written)
        with contextlib.closing(factory()) as storage:
            assert storage.getName() == str(tmp_path / "Data.fs")


@pytest.mark.parametrize("blobs", ["", "&blob_dir={0}/b", "&blobstorage_dir={0}/b"])
def test_a_demo_storage_leaves_the_file_as_it_is(
    tmp_path: Path, closing: Any, blobs: str
) -> None:
    uri = f"zrsfile://{tmp_path}/Data.fs"
    factory, options = zodburi.resolve_uri(uri)
    ZODB.DB(factory(), **options).close()
    before = (tmp_path / "Data.fs").read_bytes()
    factory, options = zodburi.resolve_uri(f"{uri}?demostorage=1{blobs.format(tmp_path)}")
    storage = factory()
    assert isinstance(storage, DemoStorage)
    database = closing(ZODB.DB(storage, **options))
    with database.transaction() as connection:
        connection.root()["n"] = 1
    assert (tmp_path / "Data.fs").read_bytes() == before
    assert IBlobStorage.providedBy(storage)


def test_a_failure_closes_the_storage(tmp_path: Path, closing: Any) -> None:
    (tmp_path / "b").write_bytes(b"no directory")
    path = tmp_path / "Data.fs"
    factory, _ = zodburi.resolve_uri(f"zrsfile://{path}?blobstorage_dir={tmp_path}/b")
    with pytest.raises(OSError, match="b"):
        factory()
    closing(FileStorage(str(path)))  # its lock is free


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("file:///x", "does not begin with zrsfile://"),
        ("zrsfile:x", "does not begin with zrsfile://"),
        ("zrsfile:///x?quota=much", "'much'"),
        ("zrsfile:///x?create=perhaps", "'perhaps'"),
        ("zrsfile:///x?blob_dir=a&blobstorage_dir=b", "both blob_dir and blobstorage_dir"),
    ],
)
def test_invalid_uris(uri: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        resolve(uri)


def test_unknown_options_are_reported_by_zodburi(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="colour"):
        zodburi.resolve_uri(f"zrsfile://{tmp_path}/Data.fs?colour=blue")
