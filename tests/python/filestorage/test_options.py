"""Options of a storage, and refused operations."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
import ZODB.FileStorage
from zc.lockfile import LockError
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage.FileStorage import (
    FileStorageError,
    FileStorageFormatError,
    FileStoragePacker,
    FileStorageQuotaError,
)
from ZODB.POSException import POSKeyError, ReadOnlyError, StorageTransactionError
from ZODB.serialize import referencesf
from ZODB.utils import p64, z64

from filestorage.committing import commit, store
from zc.zrs.filestorage import FileStorage


@pytest.mark.parametrize("commit_sync", ["ordered", "single"])
def test_both_ways_to_sync_write_the_same_file(tmp_path: Path, commit_sync: Any) -> None:
    path = tmp_path / "Data.fs"
    storage = FileStorage(str(path), commit_sync=commit_sync)
    tid = commit(storage, {z64: b"data"}, "first")
    storage.close()
    other = ZODB.FileStorage.FileStorage(str(tmp_path / "Other.fs"))
    transaction = TransactionMetaData(description="first")
    other.tpc_begin(transaction, tid)
    other.store(z64, z64, b"data", "", transaction)
    other.tpc_vote(transaction)
    other.tpc_finish(transaction)
    other.close()
    assert path.read_bytes() == (tmp_path / "Other.fs").read_bytes()


def test_an_unknown_way_to_sync_is_refused(tmp_path: Path) -> None:
    sync: Any = "sometimes"
    with pytest.raises(ValueError, match="commit_sync must be 'ordered' or 'single'"):
        FileStorage(str(tmp_path / "Data.fs"), commit_sync=sync)


def test_a_failed_opening_releases_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "Data.fs"
    path.write_bytes(b"something else")
    with pytest.raises(FileStorageFormatError):
        FileStorage(str(path))
    path.unlink()
    FileStorage(str(path)).close()


def test_one_writer_at_a_time_of_either_kind(tmp_path: Path) -> None:
    path = str(tmp_path / "Data.fs")
    kinds: list[Any] = [FileStorage, ZODB.FileStorage.FileStorage]
    for holder in kinds:
        storage = holder(path)
        for other in kinds:
            with pytest.raises(LockError):
                other(path)
        FileStorage(path, read_only=True).close()
        storage.close()


def test_a_read_only_storage_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "Data.fs"
    storage = FileStorage(str(path))
    commit(storage, {z64: b"data"})
    storage.close()
    (tmp_path / "Data.fs.index").unlink()
    with path.open("ab") as file:
        file.write(b"unfinished")
    there = sorted(tmp_path.iterdir())
    content = path.read_bytes()
    storage = FileStorage(str(path), read_only=True)
    assert storage.load(z64)[0] == b"data"
    transaction = TransactionMetaData()
    for call in (
        lambda: storage.tpc_begin(transaction),
        lambda: storage.pack(0, referencesf),
        storage.new_oid,
    ):
        with pytest.raises(ReadOnlyError):
            call()
    storage.close()
    assert sorted(tmp_path.iterdir()) == there
    assert path.read_bytes() == content


def test_files_of_python_2_are_only_read(tmp_path: Path) -> None:
    path = tmp_path / "Data.fs"
    storage = FileStorage(str(path))
    tid = commit(storage, {z64: b"data"})
    storage.close()
    with path.open("r+b") as file:
        file.write(b"FS21")
    with pytest.raises(FileStorageFormatError):
        FileStorage(str(path))
    storage = FileStorage(str(path), read_only=True)
    assert storage.load(z64) == (b"data", tid)
    assert [txn.tid for txn in storage.iterator()] == [tid]
    storage.close()


def test_stop_shows_the_past_though_there_is_an_index(tmp_path: Path) -> None:
    path = str(tmp_path / "Data.fs")
    storage = FileStorage(path)
    first = commit(storage, {z64: b"first"})
    second = commit(storage, {z64: b"second", p64(1): b"new"})
    storage.close()
    storage = FileStorage(path, read_only=True, stop=second)
    assert storage.load(z64) == (b"first", first)
    assert storage.lastTransaction() == first
    with pytest.raises(POSKeyError):
        storage.load(p64(1))
    assert [txn.tid for txn in storage.iterator()] == [first]
    storage.close()
    with pytest.raises(ValueError, match="time-travel"):
        FileStorage(path, stop=second)


def test_the_quota(tmp_path: Path) -> None:
    storage = FileStorage(str(tmp_path / "Data.fs"), quota=200)
    tid = commit(storage, {z64: b"x" * 150})
    transaction = TransactionMetaData()
    storage.tpc_begin(transaction)
    with pytest.raises(FileStorageQuotaError):
        store(storage, {p64(1): b"y"}, transaction)
    storage.tpc_abort(transaction)
    assert storage.lastTransaction() == tid
    storage.close()


def test_a_packer_written_in_python_is_called(tmp_path: Path) -> None:
    """ZODB's own packer, used by our storage, has the same result as ours."""
    asked = []

    def packer(storage: Any, references: Any, stop: bytes, gc: bool) -> Any:
        asked.append(stop)
        packer = FileStoragePacker(storage, references, stop, gc)
        try:
            end = packer.pack()
            return None if end is None else (end, packer.index)
        finally:
            packer.close()

    contents = []
    for name, options in ("ours", {}), ("theirs", {"packer": packer}):
        path = tmp_path / name
        storage = FileStorage(str(path), **options, pack_gc=False)  # type: ignore[arg-type]
        for number in range(3):
            transaction = TransactionMetaData()
            storage.tpc_begin(transaction, p64(1 << 58 | number))
            store(storage, {z64: b"data %d" % number}, transaction)
            storage.tpc_vote(transaction)
            storage.tpc_finish(transaction)
        storage.pack(1e10, referencesf)
        contents.append(path.read_bytes())
        assert storage.load(z64)[0] == b"data 2"
        commit(storage, {z64: b"goes on"})
        storage.close()
        assert (tmp_path / f"{name}.old").exists()
    assert len(asked) == 1
    assert contents[0] == contents[1]


def test_the_old_file_is_removed_on_request(tmp_path: Path) -> None:
    storage = FileStorage(str(tmp_path / "Data.fs"), pack_keep_old=False, pack_gc=False)
    commit(storage, {z64: b"first"})
    tid = commit(storage, {z64: b"second"})
    storage.pack(1e10, referencesf)
    assert [txn.tid for txn in storage.iterator()] == [tid]
    assert not (tmp_path / "Data.fs.old").exists()
    storage.close()


def test_an_error_of_referencesf_ends_the_pack(tmp_path: Path) -> None:
    storage = FileStorage(str(tmp_path / "Data.fs"))
    commit(storage, {z64: b"first"})
    commit(storage, {z64: b"second"})
    content = (tmp_path / "Data.fs").read_bytes()

    def fails(_data: bytes) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        storage.pack(1e10, fails)
    assert (tmp_path / "Data.fs").read_bytes() == content
    assert not (tmp_path / "Data.fs.pack").exists()
    storage.pack(1e10, lambda _data: [])
    assert len(list(storage.iterator())) == 1
    storage.close()


def test_a_pack_within_a_pack_is_refused(tmp_path: Path) -> None:
    storage = FileStorage(str(tmp_path / "Data.fs"))
    commit(storage, {z64: b"first"})
    seen = []

    def packs(_data: bytes) -> Any:
        with pytest.raises(FileStorageError, match="Already packing"):
            storage.pack(1e10, packs)
        seen.append(True)
        return []

    storage.pack(1e10, packs)
    assert seen
    storage.close()


def test_calls_for_another_transaction_are_refused(tmp_path: Path) -> None:
    storage = FileStorage(str(tmp_path / "Data.fs"))
    transaction, other = TransactionMetaData(), TransactionMetaData()
    storage.tpc_begin(transaction)
    with pytest.raises(StorageTransactionError):
        storage.tpc_begin(transaction)
    for call in (
        lambda: storage.store(z64, z64, b"data", "", other),
        lambda: storage.tpc_vote(other),
        lambda: storage.tpc_finish(other),
        lambda: storage.tpc_finish(transaction),  # not voted
    ):
        with pytest.raises(StorageTransactionError):
            call()
    storage.tpc_abort(other)  # ignored
    storage.close()


def test_an_io_error_has_its_number_and_its_path(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "Data.fs"
    with pytest.raises(FileNotFoundError) as caught:
        FileStorage(str(path), read_only=True)
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == str(path)


def test_an_unfinished_transaction_is_saved_and_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "Data.fs"
    storage = FileStorage(str(path))
    commit(storage, {z64: b"data"})
    end = storage.getSize()
    transaction = TransactionMetaData()
    storage.tpc_begin(transaction)
    store(storage, {z64: b"lost"}, transaction)
    storage.tpc_vote(transaction)
    content = path.read_bytes()
    storage.close()  # not aborted, as after a crash
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING, "ZODB.FileStorage"):
        storage = FileStorage(str(path))
    assert "truncated" in caplog.text
    assert storage.load(z64)[0] == b"data"
    storage.close()
    assert path.read_bytes() == content[:end]
    assert (tmp_path / "Data.fs.tr0").read_bytes() == content[end:]


def test_a_transaction_larger_than_the_memory_buffer(tmp_path: Path) -> None:
    """Records beyond some megabytes are spilled to the file with the suffix .tmp."""
    storage = FileStorage(str(tmp_path / "Data.fs"))
    records = {p64(n): bytes([n]) * 3_000_000 for n in range(8)}
    commit(storage, records)
    assert (tmp_path / "Data.fs.tmp").stat().st_size > 0
    for oid, data in records.items():
        assert storage.load(oid)[0] == data
    storage.close()
    storage = ZODB.FileStorage.FileStorage(str(tmp_path / "Data.fs"))
    assert {oid: storage.load(oid)[0] for oid in records} == records
    storage.close()


def test_a_pack_time_before_1900_is_refused(tmp_path: Path) -> None:
    storage = FileStorage(str(tmp_path / "Data.fs"))
    commit(storage, {z64: b"data"})
    with pytest.raises(FileStorageError, match="Invalid pack time"):
        storage.pack(-2_208_988_800, referencesf)
    storage.close()


def test_data_that_would_read_as_a_backpointer_are_refused(tmp_path: Path) -> None:
    storage = FileStorage(str(tmp_path / "Data.fs"))
    transaction = TransactionMetaData()
    storage.tpc_begin(transaction)
    with pytest.raises(ValueError, match="without data"):
        storage.store(z64, z64, b"", "", transaction)
    storage.tpc_abort(transaction)
    storage.close()


def test_a_dangling_link(tmp_path: Path) -> None:
    """The data are written to its target, perhaps on another disk."""
    elsewhere, link = tmp_path / "elsewhere.fs", tmp_path / "Data.fs"
    link.symlink_to(elsewhere)
    with contextlib.closing(FileStorage(str(link))) as storage:
        tid = commit(storage, {z64: b"data"})
    assert link.is_symlink()
    assert elsewhere.stat().st_size > len(b"FS30")
    with contextlib.closing(FileStorage(str(link))) as storage:
        assert storage.lastTransaction() == tid
    # `create` replaces the link with a new file, as in ZODB's storage.
    FileStorage(str(link), create=True).close()
    assert not link.is_symlink()


def test_a_negative_quota_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="quota -1 is not a number of bytes"):
        FileStorage(str(tmp_path / "Data.fs"), quota=-1)


def test_a_pack_and_an_index_keep_owner_and_permissions(tmp_path: Path) -> None:
    """The owner may be another user, because root may run `zrs pack` too."""
    path = tmp_path / "Data.fs"
    with contextlib.closing(FileStorage(str(path))) as storage:
        for number in range(3):
            commit(storage, {z64: b"%d" % number})
    owner = 1234 if os.geteuid() == 0 else os.geteuid()
    os.chown(path, owner, -1)
    path.chmod(0o640)
    with contextlib.closing(FileStorage(str(path))) as storage:
        storage.pack(time.time(), lambda *_: [], gc=False)
    for file in path, Path(f"{path}.index"):
        found = file.stat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (owner, 0o640), file
