"""A real file system of a few megabytes fills up during commits and during a pack."""

from __future__ import annotations

import contextlib
import errno
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
import ZODB.FileStorage
from ZODB.Connection import TransactionMetaData
from ZODB.serialize import referencesf
from ZODB.utils import p64, z64

from zc.zrs.filestorage import FileStorage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20
DATA = b"\x80\x03cpersistent.list\nPersistentList\n.\x80\x03](B\x00\x00\x04\x00" + bytes(
    MIB // 4
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 8 MiB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(tmp_path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root can mount a small file system")
    yield tmp_path
    # Lazily, because the traceback of an expected error may hold a file open.
    unmount = ["umount", str(tmp_path)]
    subprocess.run(unmount, check=True)


def commit(storage: Any, numbers: range, serials: dict[int, bytes]) -> None:
    """Commit a quarter of a MiB of new data for each of these objects, or abort."""
    meta = TransactionMetaData()
    storage.tpc_begin(meta)
    try:
        for number in numbers:
            data = DATA + b"e." + p64(len(serials))
            storage.store(p64(number), serials.get(number, z64), data, "", meta)
        storage.tpc_vote(meta)
    except BaseException:
        storage.tpc_abort(meta)
        raise
    tid = storage.tpc_finish(meta)
    serials.update(dict.fromkeys(numbers, tid))


def fill(storage: Any, serials: dict[int, bytes]) -> None:
    for _ in range(100):
        commit(storage, range(2), serials)


def test_commits(disk: Path) -> None:
    path, serials = disk / "Data.fs", dict[int, bytes]()
    room = disk / "room"
    room.write_bytes(bytes(MIB))
    storage = FileStorage(str(path))
    with pytest.raises(OSError, match=r"Data\.fs") as raised:
        fill(storage, serials)
    assert raised.value.errno == errno.ENOSPC
    size, last = path.stat().st_size, storage.lastTransaction()
    assert size == storage.getSize()
    with pytest.raises(OSError, match="No space"):
        commit(storage, range(2), dict(serials))
    assert storage.load(p64(1))[1] == last == serials[1]
    room.unlink()
    commit(storage, range(2), serials)
    storage.close()
    look(path, serials)


def test_a_pack(disk: Path) -> None:
    path, serials = disk / "Data.fs", dict[int, bytes]()
    room = disk / "room"
    room.write_bytes(bytes(4 * MIB))
    storage = FileStorage(str(path))
    # A pack can drop only one small revision.
    for number in range(10):
        commit(storage, range(number, number + 1), serials)
    commit(storage, range(1), serials)
    room.write_bytes(bytes(4 * MIB + MIB // 2))
    before = path.read_bytes()
    with pytest.raises(OSError, match="No space") as raised:
        storage.pack(time.time(), referencesf, gc=False)
    assert raised.value.errno == errno.ENOSPC
    assert {found.name for found in disk.iterdir()} <= {
        *("room", "Data.fs", "Data.fs.lock", "Data.fs.tmp", "Data.fs.index")
    }
    assert path.read_bytes() == before
    room.unlink()
    commit(storage, range(3), serials)
    storage.pack(time.time(), referencesf, gc=False)
    assert storage.getSize() < len(before) + MIB
    storage.close()
    look(path, serials)


def look(path: Path, serials: dict[int, bytes]) -> None:
    """Open a file with both storages; both show the last committed data."""
    for class_ in FileStorage, ZODB.FileStorage.FileStorage:
        with contextlib.closing(class_(str(path))) as storage:
            assert {n: storage.getTid(p64(n)) for n in serials} == serials
