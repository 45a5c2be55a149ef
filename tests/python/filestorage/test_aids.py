"""Failures of optional files, such as the index, do not fail a storage."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ZODB.serialize import referencesf
from ZODB.utils import p64, z64

from filestorage.committing import commit
from zc.zrs.filestorage import FileStorage

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

DATA = b"N.N."
LATER = 2.0**32  # as a pack time: packs everything


def without_room_for_the_index(directory: Path) -> Path:
    """Make a database with an index that cannot be saved; return its path."""
    path = directory / "Data.fs"
    storage = FileStorage(str(path))
    for number in range(3):
        commit(storage, {z64: DATA * (number + 1)})
    storage.close()
    path.with_name("Data.fs.index").unlink()
    # Not even root can write there.
    path.with_name("Data.fs.index.index_tmp").mkdir()
    return path


def test_a_storage_opens_though_its_index_cannot_be_saved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = without_room_for_the_index(tmp_path)
    storage = FileStorage(str(path))
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert "cannot save the index" in warning.getMessage()
    assert str(path) in warning.getMessage()
    tid = commit(storage, {z64: DATA})
    storage.close()
    storage = FileStorage(str(path), read_only=True)
    assert storage.load(z64) == (DATA, tid)
    storage.close()


def test_a_pack_succeeds_though_its_index_cannot_be_saved(tmp_path: Path) -> None:
    storage = FileStorage(str(without_room_for_the_index(tmp_path)))
    before = storage.getSize()
    storage.pack(LATER, referencesf)
    assert storage.getSize() < before
    assert storage.load(z64)[0] == DATA * 3
    storage.close()


def test_the_process_id_needs_no_room_in_the_lock_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "Data.fs"
    FileStorage(str(path)).close()
    # A device that is always full.
    path.with_name("Data.fs.lock").unlink()
    path.with_name("Data.fs.lock").symlink_to("/dev/full")
    storage = FileStorage(str(path))
    assert "cannot write the process id" in caplog.text
    commit(storage, {p64(0): DATA})
    storage.close()
