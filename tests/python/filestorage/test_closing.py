"""A closed FileStorage has no open files; files of other kinds are refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from ZODB.FileStorage.FileStorage import FileStorageFormatError

from replicas.transactions import commit
from streams.captures import MAGIC_LENGTH, PYTHON2_MAGIC
from zc.zrs.filestorage import FileStorage


def open_files(directory: Path) -> list[str]:
    """Return the files in a directory that this process has open."""
    links = Path("/proc/self/fd")
    if not links.is_dir():
        pytest.skip("open files are listed only in /proc")
    names = []
    for link in links.iterdir():
        try:
            name = link.readlink()
        except OSError:
            continue  # the descriptor used for the listing
        if name.is_relative_to(directory):
            names.append(name.name)
    return sorted(names)


def test_a_closed_storage_has_no_file_open(tmp_path: Path) -> None:
    storage = FileStorage(str(tmp_path / "Data.fs"))
    commit(storage, {0: b"data"})
    assert "Data.fs" in open_files(tmp_path)
    storage.close()
    assert open_files(tmp_path) == []
    with pytest.raises(ValueError, match="closed"):
        storage.load(bytes(8))
    assert storage.getSize() == (tmp_path / "Data.fs").stat().st_size


@pytest.mark.parametrize(
    ("magic", "said"),
    [
        (b"%PDF", '"%PDF"$'),
        (PYTHON2_MAGIC, '"FS21", as files of Python 2 do, which can only be read$'),
    ],
)
def test_a_file_of_another_kind(tmp_path: Path, magic: bytes, said: str) -> None:
    path = tmp_path / "Data.fs"
    FileStorage(str(path)).close()
    path.write_bytes(magic + path.read_bytes()[MAGIC_LENGTH:] + bytes(100))
    with pytest.raises(FileStorageFormatError, match=said):
        FileStorage(str(path))


def test_an_empty_storage_reopens_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "Data.fs"
    FileStorage(str(path)).close()
    assert (tmp_path / "Data.fs.index").exists()
    with caplog.at_level(logging.WARNING):
        FileStorage(str(path)).close()
    assert caplog.messages == []


def test_a_closed_storage_still_iterates(tmp_path: Path) -> None:
    storage = FileStorage(str(tmp_path / "Data.fs"))
    tids = [commit(storage, {0: b"data"}) for _ in range(3)]
    storage.close()
    assert [found.tid for found in storage.iterator()] == tids
    assert [found.tid for found in storage.iterator(tids[1], tids[1])] == tids[1:2]
    assert open_files(tmp_path) == []
