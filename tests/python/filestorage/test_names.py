"""A file with several names is still one file, with one writer."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from zc.lockfile import LockError
from ZODB.FileStorage import FileStorage as ReferenceStorage
from ZODB.serialize import referencesf
from ZODB.utils import p64, z64

from filestorage.committing import commit
from replicas.processes import program, read_line
from zc.zrs.filestorage import FileStorage
from zc.zrs.storages.engine import open_file_storage

if TYPE_CHECKING:
    from pathlib import Path

DATA = b"N.N."
LATER = 2.0**32  # as a pack time: packs everything


@pytest.fixture
def names(tmp_path: Path) -> tuple[Path, Path]:
    """Return the path of a file to be created, and of a link to it."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "service").mkdir()
    link = tmp_path / "service" / "Data.fs"
    link.symlink_to("../disk/db.fs")
    return tmp_path / "disk" / "db.fs", link


@pytest.mark.both_engines
def test_a_link_does_not_admit_a_second_writer(names: tuple[Path, Path]) -> None:
    path, link = names
    for first, second in (path, link), (link, path):
        storage = open_file_storage(str(first))
        with pytest.raises(LockError):
            open_file_storage(str(second))
        storage.close()
        open_file_storage(str(second)).close()


def test_the_link_itself_is_locked_for_zodb(names: tuple[Path, Path]) -> None:
    _, link = names
    storage = FileStorage(str(link))
    with pytest.raises(LockError):
        ReferenceStorage(str(link))
    storage.close()
    ReferenceStorage(str(link)).close()


@pytest.mark.both_engines
@pytest.mark.parametrize("packer", [False, True])
def test_a_pack_through_a_link_keeps_the_link(
    names: tuple[Path, Path], engine: str, *, packer: bool
) -> None:
    path, link = names
    options = {"packer": ReferenceStorage.packer} if packer else {}
    storage = open_file_storage(str(link), **options)
    for data in DATA, DATA + DATA:
        commit(storage, {z64: data})
    storage.pack(LATER, referencesf)
    tid = commit(storage, {z64: DATA})
    storage.close()
    assert link.is_symlink(), engine
    assert sorted(found.name for found in link.parent.iterdir()) == sorted(
        {"Data.fs"} | {found.name for found in link.parent.glob("*.lock")}
    )
    assert {"db.fs", "db.fs.index", "db.fs.old"} <= {f.name for f in path.parent.iterdir()}
    with_path = FileStorage(str(path))
    assert with_path.lastTransaction() == tid
    assert with_path._used_index
    with_path.close()


def test_a_storage_keeps_its_files_when_the_process_changes_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    storage = FileStorage("Data.fs")
    assert storage.getName() == "Data.fs"
    for data in DATA, DATA + DATA:
        commit(storage, {z64: data})
    monkeypatch.chdir(tmp_path / "elsewhere")
    storage.pack(LATER, referencesf)
    commit(storage, {p64(1): DATA})
    storage.close()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "Data.fs.old").exists()


def test_an_error_names_the_file_as_the_caller_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("missing.fs", "missing/Data.fs", str(tmp_path / "missing.fs")):
        with pytest.raises(FileNotFoundError) as ours:
            FileStorage(name, read_only=True)
        with pytest.raises(FileNotFoundError) as theirs:
            ReferenceStorage(name, read_only=True)
        assert str(ours.value) == str(theirs.value)
        assert ours.value.filename == name


@pytest.fixture
def hard_links(tmp_path: Path) -> tuple[Path, Path]:
    """Return two paths of one file."""
    one, other = tmp_path / "one" / "Data.fs", tmp_path / "other" / "Data.fs"
    for path in one, other:
        path.parent.mkdir()
    FileStorage(str(one)).close()
    other.hardlink_to(one)
    return one, other


def test_a_hard_link_does_not_admit_a_second_writer(
    hard_links: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Each name had its own lock file, and two storages overwrote each other."""
    for first, second in hard_links, hard_links[::-1]:
        storage = FileStorage(str(first))
        assert f"{first} has 2 names" in caplog.text
        commit(storage, {z64: DATA})
        with pytest.raises(LockError, match="by another name"):
            FileStorage(str(second))
        FileStorage(str(second), read_only=True).close()
        commit(storage, {z64: DATA * 2})
        storage.close()


def test_a_pack_moves_the_lock_to_the_new_file(hard_links: tuple[Path, Path]) -> None:
    one, other = hard_links
    storage = FileStorage(str(one))
    for number in range(3):
        commit(storage, {z64: DATA * (number + 1)})
    storage.pack(LATER, referencesf)
    # Two files now: the other name still refers to the old one.
    other_storage = FileStorage(str(other))
    assert other_storage.load(z64)[0] == DATA * 3
    other_storage.close()
    third = one.parent.with_name("third.fs")
    third.hardlink_to(one)
    with pytest.raises(LockError):
        FileStorage(str(third))
    storage.close()
    FileStorage(str(third)).close()


def test_a_forked_process_does_not_keep_the_file_locked(tmp_path: Path) -> None:
    source = """
import signal
from zc.zrs.filestorage import FileStorage
storage = FileStorage(str(directory / "Data.fs"))
reading, writing = os.pipe()
child = os.fork()
if not child:
    os.write(writing, b"forked")
    signal.pause()
os.read(reading, 6)
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with program(source, tmp_path) as process:
        child = int(read_line(process))
        process.wait()
        try:
            FileStorage(str(tmp_path / "Data.fs")).close()
        finally:
            os.kill(child, signal.SIGKILL)
