"""Blobs are replicated, files and all."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import transaction
import ZODB
import ZODB.blob
import ZODB.config
from ZODB.interfaces import BlobError
from ZODB.MappingStorage import MappingStorage
from ZODB.tests.hexstorage import HexStorage

from programs import free_port
from replicas.waiting import wait_caught_up, wait_until
from streams.captures import DIRECTORY, Capture
from streams.messages import Z64, sized
from streams.scripted_primary import playing
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary
from zc.zrs.storages.engine import open_file_storage

if TYPE_CHECKING:
    from collections.abc import Callable

    from replicas.opening import Opener

pytestmark = pytest.mark.both_engines

BLOCK = 1 << 16
LENGTHS = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 17]


def file_storage(directory: Path, name: str) -> Any:
    return open_file_storage(
        str(directory / f"{name}.fs"), blob_dir=str(directory / f"{name}.blobs")
    )


def lawn_storage(directory: Path, name: str) -> Any:
    # Creating a storage empties the directory; later it uses the layout that is there.
    open_file_storage(str(directory / f"{name}.fs")).close()
    blobs = directory / f"{name}.blobs"
    blobs.mkdir()
    (blobs / ".layout").write_text("lawn")
    storage = file_storage(directory, name)
    assert storage.fshelper.layout_name == "lawn"
    return storage


def wrapped_storage(directory: Path, name: str) -> Any:
    storage = open_file_storage(str(directory / f"{name}.fs"))
    return ZODB.blob.BlobStorage(str(directory / f"{name}.blobs"), storage)


def blob_files(directory: Path, name: str) -> dict[str, bytes]:
    """Return the contents of all committed blobs by file name."""
    return {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for path in (directory / f"{name}.blobs").rglob("0x*.blob")
    }


def write_blobs(db: Any) -> None:
    """Make a blob of each length, change one, and undo the change."""
    with db.transaction() as connection:
        for length in LENGTHS:
            blob = ZODB.blob.Blob()
            with blob.open("w") as file:
                file.write(bytes(range(256)) * (length // 256) + bytes(length % 256))
            connection.root()[length] = blob
    with db.transaction() as connection, connection.root()[1].open("w") as file:
        file.write(b"changed")
    db.undo(db.undoLog(0, 1)[0]["id"])
    transaction.commit()


STORAGES = [file_storage, lawn_storage, wrapped_storage]


@pytest.mark.parametrize("make_copy", STORAGES)
@pytest.mark.parametrize("make", STORAGES)
def test_blobs_arrive(
    make: Callable[[Path, str], Any],
    make_copy: Callable[[Path, str], Any],
    tmp_path: Path,
    opener: Opener,
) -> None:
    primary = opener.primary(make(tmp_path, "primary"))
    db = ZODB.DB(primary)
    write_blobs(db)
    secondary = opener.secondary(primary, make_copy(tmp_path, "secondary"))
    wait_caught_up(primary, secondary)
    write_blobs(db)
    wait_caught_up(primary, secondary)

    assert (tmp_path / "primary.fs").read_bytes() == (tmp_path / "secondary.fs").read_bytes()
    written = blob_files(tmp_path, "primary")
    assert max(map(len, written.values())) == max(LENGTHS)
    if make is make_copy:
        assert blob_files(tmp_path, "secondary") == written
    assert sorted(blob_files(tmp_path, "secondary").values()) == sorted(written.values())
    left_over = Path(secondary.temporaryDirectory())
    assert [path for path in left_over.iterdir() if path.suffix == ".blob"] == []

    reader = ZODB.DB(secondary).open()
    for length in LENGTHS:
        with reader.root()[length].open() as file:
            assert len(file.read()) == length


def test_blobs_of_transformed_records_arrive(tmp_path: Path, opener: Opener) -> None:
    """They were omitted, because transformed records do not show that they are blobs."""
    primary = opener.primary(file_storage(tmp_path, "primary"))
    secondary = opener.secondary(primary, file_storage(tmp_path, "secondary"))
    db = ZODB.DB(HexStorage(primary))
    write_blobs(db)
    wait_caught_up(primary, secondary)
    files = blob_files(tmp_path, "primary")
    assert len(files) == len(LENGTHS) + 2
    assert blob_files(tmp_path, "secondary") == files
    db.close()


def test_recorded_blobs_are_written(tmp_path: Path) -> None:
    capture = Capture("py38-blob")
    stream = capture.read(".wire")
    storage = file_storage(tmp_path, "secondary")
    with playing(lambda _start: [stream], protocol=b"zrs2.1") as primary:
        secondary = Secondary(storage, primary.address)
        wait_until(lambda: secondary.lastTransaction() == capture.tids[-1])
        secondary.close()
    assert (tmp_path / "secondary.fs").read_bytes() == capture.data
    recorded = {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for path in (DIRECTORY / "py38-blob.blobs").rglob("*.blob")
    }
    # zc.zrs loses empty blobs: only their records arrive.
    expected = {name: contents for name, contents in recorded.items() if contents}
    found = blob_files(tmp_path, "secondary")
    assert {name: contents for name, contents in found.items() if contents} == expected


def test_a_missing_blob_ends_the_stream(
    tmp_path: Path, opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    primary, missing = primary_with_a_missing_blob(tmp_path, opener)
    before = primary.undoLog(0, 1)
    assert before
    secondary = opener.secondary(primary, file_storage(tmp_path, "secondary"))
    wait_until(lambda: "is missing" in caplog.text)
    record = next(r for r in caplog.records if "is missing" in r.getMessage())
    assert record.levelno == logging.ERROR
    assert record.name == "zc.zrs.primary"
    for part in missing.parent.name[2:], missing.stem, str(missing):
        assert part in record.getMessage()
    # Earlier transactions have arrived, and nothing of this one.
    wait_until(lambda: secondary.lastTransaction() != Z64)
    assert secondary.lastTransaction() < primary.lastTransaction()


def test_a_missing_blob_may_be_skipped(
    tmp_path: Path, opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    primary, _ = primary_with_a_missing_blob(tmp_path, opener, missing_blobs="skip")
    secondary = opener.secondary(primary, file_storage(tmp_path, "secondary"))
    wait_caught_up(primary, secondary)
    assert (tmp_path / "primary.fs").read_bytes() == (tmp_path / "secondary.fs").read_bytes()
    assert any(
        r.levelno == logging.ERROR and "is missing" in r.getMessage() for r in caplog.records
    )


def primary_with_a_missing_blob(
    directory: Path, opener: Opener, **options: Any
) -> tuple[Any, Path]:
    primary = opener.primary(file_storage(directory, "primary"), **options)
    db = ZODB.DB(primary)
    with db.transaction() as connection:
        connection.root()["blob"] = ZODB.blob.Blob(b"contents")
    (missing,) = (directory / "primary.blobs").rglob("0x*.blob")
    missing.unlink()
    return primary, missing


def test_a_secondary_without_blobs_is_refused(
    tmp_path: Path, opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    primary = opener.primary(file_storage(tmp_path, "primary"))
    address: Any = primary.address
    with socket.create_connection(address) as connection:
        connection.sendall(sized(b"zrs2.0"))
        assert connection.recv(1) == b""
    wait_until(lambda: "Invalid protocol b'zrs2.0'. Require >= 2.1" in caplog.text)
    (line,) = [text for text in caplog.messages if "Require >= 2.1" in text]
    assert "blob-dir" in line
    assert "blobs none" in line


def test_a_stream_cut_within_a_blob_leaves_nothing_behind(tmp_path: Path) -> None:
    capture = Capture("py38-blob")
    stream = capture.read(".wire")
    storage = file_storage(tmp_path, "secondary")
    # The largest blob makes up most of the recording.
    cut = stream[: len(stream) // 2]
    with playing(lambda _start: [cut], hang_up=True, protocol=b"zrs2.1") as primary:
        secondary = Secondary(storage, primary.address, reconnect_delay=60)
        wait_until(lambda: not secondary.tpc_transaction() and primary.starts)
        secondary.close()
    assert capture.data.startswith((tmp_path / "secondary.fs").read_bytes())
    temporary = tmp_path / "secondary.blobs" / "tmp"
    assert [path.name for path in temporary.iterdir() if path.suffix == ".blob"] == []


def test_storages_without_files_are_refused() -> None:
    with pytest.raises(TypeError):
        Secondary(MappingStorage(), ("127.0.0.1", 1))


@pytest.mark.parametrize("where", ["primary", "secondary"])
def test_blobs_none_replicates_only_records(tmp_path: Path, opener: Opener, where: str) -> None:
    options: dict[str, Any] = {"blobs": "none"}
    primary = opener.primary(
        file_storage(tmp_path, "primary"), **(options if where == "primary" else {})
    )
    db = ZODB.DB(primary)
    with db.transaction() as connection:
        connection.root()["blob"] = ZODB.blob.Blob(b"contents" * 20_000)
        connection.root()["more"] = "more"
    # It has no blob directory.
    secondary = opener.secondary(primary, **(options if where == "secondary" else {}))
    wait_caught_up(primary, secondary)
    assert (tmp_path / "primary.fs").read_bytes() == (tmp_path / "secondary.fs").read_bytes()
    if where == "primary":
        return
    with ZODB.DB(secondary).transaction() as connection:
        assert connection.root()["more"] == "more"
        blob = connection.root()["blob"]
        with pytest.raises(BlobError) as caught:
            blob.open("r").read()
    (missing,) = (tmp_path / "primary.blobs").rglob("0x*.blob")
    for part in "blobs none", missing.parent.name[2:], missing.stem:
        assert part in str(caught.value)


def test_blobs_none_on_shared_storage(tmp_path: Path, opener: Opener) -> None:
    primary = opener.primary(file_storage(tmp_path, "primary"))
    db = ZODB.DB(primary)
    with db.transaction() as connection:
        connection.root()["blob"] = ZODB.blob.Blob(b"contents")
    shared = open_file_storage(
        str(tmp_path / "secondary.fs"),
        shared_blobs=True,
        blob_dir=str(tmp_path / "primary.blobs"),
    )
    secondary = opener.secondary(primary, shared, blobs="none")
    wait_caught_up(primary, secondary)
    with (
        ZODB.DB(secondary).transaction() as connection,
        connection.root()["blob"].open("r") as file,
    ):
        assert file.read() == b"contents"
    assert len(list((tmp_path / "primary.blobs").rglob("0x*.blob"))) == 1


def test_options_for_blobs_are_checked(tmp_path: Path) -> None:
    path = str(tmp_path / "Data.fs")
    wrong: Any = "some"
    for make, option in (Primary, "blobs"), (Primary, "missing_blobs"), (Secondary, "blobs"):
        with pytest.raises(ValueError, match=f"{option} must be .*, not 'some'"):
            make(path, ("127.0.0.1", 0), **{option: wrong})
    assert not (tmp_path / "Data.fs").exists()


def test_options_for_blobs_in_a_configuration(tmp_path: Path) -> None:
    storage = ZODB.config.storageFromString(
        f"""
        %import zc.zrs
        <zrs>
          replicate-to 127.0.0.1:0
          replicate-from 127.0.0.1:{free_port()}
          missing-blobs skip
          blobs none
          filestorage-path {tmp_path}/Data.fs
        </zrs>
        """
    )
    with pytest.raises(BlobError, match="blobs none"):
        storage.loadBlob(Z64, Z64)
    storage.close()
