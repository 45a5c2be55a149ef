"""One file that several names lead to is still one file, with one writer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from zc.lockfile import LockError
from ZODB.FileStorage import FileStorage as ReferenceStorage
from ZODB.serialize import referencesf
from ZODB.utils import p64, z64

from filestorage.committing import commit
from zc.zrs.engine import open_file_storage
from zc.zrs.filestorage import FileStorage

if TYPE_CHECKING:
    from pathlib import Path

DATA = b"N.N."
LATER = 2.0**32  # as a pack time: everything


@pytest.fixture
def names(tmp_path: Path) -> tuple[Path, Path]:
    """Return the path of a file that is to be made, and of a link to it."""
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
