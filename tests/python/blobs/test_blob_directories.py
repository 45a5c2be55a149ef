"""A blob directory is never emptied because its Data.fs is missing."""

from __future__ import annotations

import io
import signal
from typing import TYPE_CHECKING, Any

import pytest
import ZConfig
import ZODB
import ZODB.blob
import ZODB.config
from ZODB.FileStorage.FileStorage import FileStorageError
from ZODB.interfaces import BlobError

from programs import free_port
from replicas.opening import tcp_address
from replicas.waiting import wait_caught_up
from zc.zrs.commands.errors import CannotStart
from zc.zrs.commands.service import run_primary, run_secondary
from zc.zrs.filestorage import FileStorage
from zc.zrs.storages.engine import open_file_storage

if TYPE_CHECKING:
    from pathlib import Path

    from replicas.opening import Opener

pytestmark = pytest.mark.both_engines

FILE_SECTIONS = {
    "filestorage": "{file}",
    "zrsfilestorage": "{file}",
    "hexstorage": "<hexstorage>\n{file}\n</hexstorage>",
}


def section(kind: str, nested: str, directory: Path, options: str, create: str = "") -> Any:
    """Return the opener of a section with a new file and the primary's blobs."""
    name = nested if nested in {"filestorage", "zrsfilestorage"} else "filestorage"
    file = (
        f"<{name}>\npath {directory}/new.fs\nblob-dir {directory}/primary.blobs\n"
        f"{create}\n</{name}>"
    )
    storage = FILE_SECTIONS[nested].format(file=file)
    text = f"%import zc.zrs\n%import ZODB.tests\n<{kind}>\n{options}\n{storage}\n</{kind}>"
    schema = ZODB.config.getStorageSchema()
    config, _ = ZConfig.loadConfigFile(schema, io.StringIO(text))
    return config.storage


def primary_with_a_blob(directory: Path, opener: Opener, **options: Any) -> tuple[Any, Any]:
    """Return a primary, and its database with two revisions of a blob."""
    storage = open_file_storage(
        str(directory / "primary.fs"), blob_dir=str(directory / "primary.blobs")
    )
    primary = opener.primary(storage, **options)
    db = ZODB.DB(primary)
    with db.transaction() as connection:
        connection.root()["blob"] = ZODB.blob.Blob(b"old")
    with db.transaction() as connection, connection.root()["blob"].open("w") as file:
        file.write(b"contents")
    return primary, db


def blobs(directory: Path) -> int:
    """Return the number of the primary's blob files."""
    return len(list((directory / "primary.blobs").rglob("0x*.blob")))


@pytest.mark.parametrize("nested", FILE_SECTIONS)
@pytest.mark.parametrize("kind", ["secondary", "zrs"])
def test_a_new_secondary_without_blobs_keeps_shared_blobs(
    tmp_path: Path, opener: Opener, kind: str, nested: str, engine: str
) -> None:
    # Opening the file emptied the directory, so all machines lost all blobs.
    primary, _ = primary_with_a_blob(tmp_path, opener)
    host, port = tcp_address(primary)
    options = f"replicate-from {host}:{port}\nreconnect-delay 0.1\nblobs none"
    if nested == "filestorage":
        options += f"\nstorage-engine {engine}"
    secondary = opener.closing(section(kind, nested, tmp_path, options).open())
    assert blobs(tmp_path) == 2
    if nested == "hexstorage":
        return  # it could not read the primary's blobs
    wait_caught_up(primary, secondary)
    with (
        ZODB.DB(secondary).transaction() as connection,
        connection.root()["blob"].open("r") as file,
    ):
        assert file.read() == b"contents"


@pytest.mark.parametrize("nested", FILE_SECTIONS)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("secondary", "replicate-from 127.0.0.1:{}"),
        ("secondary", "replicate-from 127.0.0.1:{}\nblobs all"),
        ("primary", "replicate-to 127.0.0.1:0"),
        ("primary", "replicate-to 127.0.0.1:0\nblobs none"),
        ("zrs", "replicate-to 127.0.0.1:0\nblobs none"),
    ],
)
def test_a_new_storage_does_not_take_over_blobs_of_another(
    tmp_path: Path, opener: Opener, kind: str, options: str, nested: str
) -> None:
    primary_with_a_blob(tmp_path, opener)
    opens = section(kind, nested, tmp_path, options.format(free_port()))
    with pytest.raises(FileStorageError, match=r"new\.fs does not exist, but"):
        opens.open()
    assert blobs(tmp_path) == 2
    assert not (tmp_path / "new.fs").exists()


@pytest.mark.parametrize("kind", ["secondary", "zrs"])
@pytest.mark.parametrize("nested", FILE_SECTIONS)
def test_create_contradicts_shared_blobs(tmp_path: Path, kind: str, nested: str) -> None:
    options = f"replicate-from 127.0.0.1:{free_port()}\nblobs none"
    with pytest.raises(ZConfig.ConfigurationError, match=r"blobs none around .* create"):
        section(kind, nested, tmp_path, options, "create true")


def test_the_commands_do_not_touch_blobs(tmp_path: Path, opener: Opener) -> None:
    primary, _ = primary_with_a_blob(tmp_path, opener)
    directory = tmp_path / "primary.blobs"
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    for run in run_primary, run_secondary:
        with pytest.raises(CannotStart, match=r"new\.fs does not exist, but"):
            run(tmp_path / "new.fs", primary.address, blob_dir=directory)
        # A command that did not start leaves the signal handlers unchanged.
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == blocked
    assert blobs(tmp_path) == 2


def test_create_makes_a_new_file(tmp_path: Path, opener: Opener) -> None:
    primary, db = primary_with_a_blob(tmp_path, opener)
    db.close()
    assert primary.address
    path, directory = tmp_path / "primary.fs", tmp_path / "primary.blobs"
    path.unlink()
    (tmp_path / "primary.fs.index").unlink()
    for open_it in open_file_storage, FileStorage:
        with pytest.raises(FileStorageError, match=r"primary\.fs does not exist, but"):
            open_it(str(path), blob_dir=str(directory))
        assert not path.exists()
    assert blobs(tmp_path) == 2
    open_file_storage(str(path), blob_dir=str(directory), create=True).close()
    assert blobs(tmp_path) == 0
    # The layout marker and leftovers of commits are not blobs.
    path.unlink()
    (directory / "tmp" / "left").touch()
    open_file_storage(str(path), blob_dir=str(directory)).close()


def test_a_secondary_does_not_pack_blobs_that_it_shares(tmp_path: Path, opener: Opener) -> None:
    # The primary, which was not packed, lost the file of the old revision.
    primary, db = primary_with_a_blob(tmp_path, opener)
    shared = open_file_storage(
        str(tmp_path / "secondary.fs"),
        shared_blobs=True,
        blob_dir=str(tmp_path / "primary.blobs"),
    )
    secondary = opener.secondary(primary, shared, blobs="none")
    wait_caught_up(primary, secondary)
    with pytest.raises(BlobError, match="shares its blobs"):
        ZODB.DB(secondary).pack()
    assert blobs(tmp_path) == 2
    # A secondary without the directory has nothing to remove.
    alone = opener.secondary(primary, str(tmp_path / "alone.fs"), blobs="none")
    wait_caught_up(primary, alone)
    ZODB.DB(alone).pack()
    assert blobs(tmp_path) == 2
    db.pack()
    assert blobs(tmp_path) == 1
