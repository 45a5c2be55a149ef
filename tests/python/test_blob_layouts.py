"""Blob directories whose marker names a layout that no storage has."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
import ZODB
from ZODB.FileStorage.FileStorage import FileStorageError

from programs import ZRS, free_port
from zc.zrs.filestorage import FileStorage

if TYPE_CHECKING:
    from pathlib import Path

MARKERS = {
    b"zeocache": "is the blob cache of a ZEO client",
    b"bush": "says 'bush'",
    b"": "says ''",
    b"\xff\xfe": "is not text",
}


@pytest.fixture(params=MARKERS, ids=["zeocache", "unknown", "empty", "binary"])
def marker(request: pytest.FixtureRequest, tmp_path: Path) -> bytes:
    ZODB.DB(FileStorage(str(tmp_path / "Data.fs"))).close()
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / ".layout").write_bytes(request.param)
    found: bytes = request.param
    return found


@pytest.mark.parametrize("command", ["check", "pack", "primary", "secondary", "bootstrap"])
def test_commands_name_the_directory(marker: bytes, command: str, tmp_path: Path) -> None:
    options = {
        "primary": ["--listen", "127.0.0.1:0"],
        "secondary": ["--from", f"127.0.0.1:{free_port()}"],
        "bootstrap": ["--from", f"127.0.0.1:{free_port()}"],
    }.get(command, [])
    blobs = str(tmp_path / "blobs")
    arguments = [*ZRS, command, str(tmp_path / "Data.fs"), "--blob-dir", blobs, *options]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode in {1, 2}
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("zrs: ")]
    assert f"{blobs} is " in line
    assert MARKERS[marker] in line


def test_the_storage_refuses_it_and_gives_up_its_lock(marker: bytes, tmp_path: Path) -> None:
    with pytest.raises(FileStorageError) as raised:
        FileStorage(str(tmp_path / "Data.fs"), blob_dir=str(tmp_path / "blobs"))
    assert MARKERS[marker] in str(raised.value)
    FileStorage(str(tmp_path / "Data.fs")).close()
