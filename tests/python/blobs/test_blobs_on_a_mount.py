"""A blob directory that is a mount point; requires permission to mount."""

from __future__ import annotations

import errno
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
import ZODB
from ZODB.blob import Blob

from zc.zrs.filestorage import FileStorage
from zc.zrs.storages.engine import open_file_storage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zc.zrs.storages.engine import Engine


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Path]:
    """Mount an empty file system."""
    directory = tmp_path / "blobs"
    directory.mkdir()
    tried = subprocess.run(
        ["mount", "-t", "tmpfs", "tmpfs", directory],  # noqa: S607 -- where it is, differs
        check=False,
        capture_output=True,
    )
    if tried.returncode:
        pytest.skip("only root can mount a file system")
    yield directory
    subprocess.run(["umount", directory], check=True)  # noqa: S607 -- as above


def files(directory: Path) -> int:
    return len(list(directory.rglob("*.blob")))


def two_revisions(path: Path, blob_dir: Path, *, keep_old: bool) -> ZODB.DB:
    """Return a database with two revisions of a blob."""
    db = ZODB.DB(FileStorage(str(path), blob_dir=str(blob_dir), pack_keep_old=keep_old))
    with db.transaction() as connection:
        connection.root()["blob"] = Blob(b"1")
    with db.transaction() as connection, connection.root()["blob"].open("w") as file:
        file.write(b"2")
    return db


@pytest.mark.parametrize("keep_old", [True, False])
def test_a_pack_removes_what_it_drops(tmp_path: Path, mount: Path, keep_old: bool) -> None:
    """It failed after the Data.fs had been packed, and the files were never removed."""
    db = two_revisions(tmp_path / "Data.fs", mount, keep_old=keep_old)
    db.pack()
    assert files(mount) == 1
    assert files(tmp_path / "blobs.old") == int(keep_old)
    db.close()


@pytest.mark.both_engines
def test_a_new_database_opens(tmp_path: Path, mount: Path, engine: Engine) -> None:
    """ZODB's storage removes the directory and creates it again, which raises EBUSY."""
    (mount / "lost+found").mkdir()
    storage = open_file_storage(str(tmp_path / "Data.fs"), engine, blob_dir=str(mount))
    db = ZODB.DB(storage)
    with db.transaction() as connection:
        connection.root()["blob"] = Blob(b"1")
    assert files(mount) == 1
    db.close()


def test_blobs_that_could_not_be_removed_are_left_to_the_next_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    db = two_revisions(tmp_path / "Data.fs", tmp_path / "blobs", keep_old=False)

    def fail(_path: str) -> None:
        raise OSError(errno.EIO, "a bad disk")

    with monkeypatch.context() as patched:
        patched.setattr("zc.zrs.files.blobs.remove_committed", fail)
        db.pack()
    assert "1 files of removed blobs could not be deleted" in caplog.text
    assert files(tmp_path / "blobs") == 2
    db.pack()
    assert files(tmp_path / "blobs") == 1
    assert not (tmp_path / "blobs" / ".dropped").exists()
    db.close()


def test_leftover_blobs_stay_if_their_records_are_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the old Data.fs is restored after the pack, its blobs are needed again."""
    path, blob_dir = tmp_path / "Data.fs", tmp_path / "blobs"
    db = two_revisions(path, blob_dir, keep_old=False)
    db.close()
    shutil.copy(path, tmp_path / "before")
    db = ZODB.DB(FileStorage(str(path), blob_dir=str(blob_dir), pack_keep_old=False))

    def fail(_path: str) -> None:
        raise OSError(errno.EIO, "a bad disk")

    with monkeypatch.context() as patched:
        patched.setattr("zc.zrs.files.blobs.remove_committed", fail)
        db.pack()
    db.close()
    shutil.copy(tmp_path / "before", path)
    (tmp_path / "Data.fs.index").unlink()
    db = ZODB.DB(FileStorage(str(path), blob_dir=str(blob_dir), pack_keep_old=False))
    db.storage.pack(1.0, db.references)
    assert files(blob_dir) == 2
    db.close()
