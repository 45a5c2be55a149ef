"""Blob directories with an unknown layout in their marker."""

from __future__ import annotations

import io
import subprocess
from typing import TYPE_CHECKING

import pytest
import ZConfig
import ZEO.ClientStorage
import ZODB
import ZODB.blob
import ZODB.config
import zodburi
from ZODB.FileStorage.FileStorage import FileStorageError

from programs import ZRS, free_port
from zc.zrs.filestorage import FileStorage
from zc.zrs.storages.engine import ENGINES, Engine, open_file_storage

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


@pytest.mark.parametrize("engine", ENGINES)
def test_either_engine(marker: bytes, engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(FileStorageError) as raised:
        open_file_storage(str(tmp_path / "Data.fs"), engine, blob_dir=str(tmp_path / "blobs"))
    assert MARKERS[marker] in str(raised.value)
    open_file_storage(str(tmp_path / "Data.fs"), engine).close()


FILE = "<filestorage>\npath {0}/Data.fs\n{1}</filestorage>"
DIRECTORY = "blob-dir {0}/blobs\n"


@pytest.mark.parametrize(
    "nested",
    [
        FILE.format("{0}", DIRECTORY),
        f"<blobstorage>\n{DIRECTORY}{FILE.format('{0}', '')}\n</blobstorage>",
        f"<demostorage>\n{FILE.format('{0}', DIRECTORY)}\n</demostorage>",
        f"<zrsfilestorage>\npath {{0}}/Data.fs\n{DIRECTORY}</zrsfilestorage>",
    ],
    ids=["filestorage", "blobstorage", "demostorage", "zrsfilestorage"],
)
@pytest.mark.parametrize("engine", ENGINES)
def test_sections(marker: bytes, engine: str, nested: str, tmp_path: Path) -> None:
    plain = nested.startswith("<filestorage>")
    section = ZODB.config.getStorageSchema()
    text = f"storage-engine {engine}\n" if plain else ""
    config, _ = ZConfig.loadConfigFile(
        section,
        io.StringIO(
            f"%import zc.zrs\n<primary>\naddress 127.0.0.1:0\n{text}"
            f"{nested.format(tmp_path)}\n</primary>"
        ),
    )
    with pytest.raises(FileStorageError) as raised:
        config.storage.open()
    assert MARKERS[marker] in str(raised.value)


def test_uris(marker: bytes, tmp_path: Path) -> None:
    for name in "blob_dir", "blobstorage_dir":
        opener, _ = zodburi.resolve_uri(f"zrsfile://{tmp_path}/Data.fs?{name}={tmp_path}/blobs")
        with pytest.raises(FileStorageError) as raised:
            opener()
        assert MARKERS[marker] in str(raised.value)
    FileStorage(str(tmp_path / "Data.fs")).close()
    with pytest.raises(ValueError, match="an unknown blobstorage_layout bush"):
        zodburi.resolve_uri("zrsfile:///d?blobstorage_dir=b&blobstorage_layout=bush")


def test_a_zeo_client_in_the_same_process_does_not_make_its_cache_a_directory_of_blobs(
    tmp_path: Path,
) -> None:
    cache = str(tmp_path / "cache")
    # The client registers its layout in ZODB's table of layouts.
    ZEO.ClientStorage.ClientStorage(
        ("127.0.0.1", free_port()), blob_dir=cache, wait=False
    ).close()
    assert "zeocache" in ZODB.blob.LAYOUTS
    with pytest.raises(FileStorageError, match="is the blob cache of a ZEO client"):
        FileStorage(str(tmp_path / "Data.fs"), blob_dir=cache)
