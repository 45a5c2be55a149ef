"""``zrs pack``: the same file as from ZODB's pack, or a one-line error."""

from __future__ import annotations

import contextlib
import shutil
import time
import zlib
from typing import TYPE_CHECKING

import pytest
import ZODB
import ZODB.FileStorage
from ZODB.blob import Blob
from ZODB.Connection import TransactionMetaData
from ZODB.serialize import referencesf
from ZODB.utils import z64

from damage.database import build
from streams.captures import DIRECTORY as GOLDEN
from zc.zrs.command import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "Data.fs"
    build(path)
    return path


@pytest.mark.parametrize("gc", [True, False])
def test_the_packed_file_is_the_one_that_zodb_makes(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, gc: bool
) -> None:
    theirs = tmp_path / "theirs.fs"
    shutil.copy(path, theirs)
    before = path.read_bytes()
    with contextlib.closing(ZODB.FileStorage.FileStorage(str(theirs))) as storage:
        storage.pack(time.time(), referencesf, gc=gc)
    assert main(["pack", *([] if gc else ["--no-gc"]), str(path)]) == 0
    after = path.read_bytes()
    assert after == theirs.read_bytes()
    assert len(after) < len(before)
    assert path.with_name("Data.fs.old").read_bytes() == before
    output = capsys.readouterr().out
    assert output == f"packed {path}: {len(before)} bytes before, {len(after)} bytes after\n"


def test_the_original_file_can_be_removed(path: Path) -> None:
    assert main(["pack", "--no-old", str(path)]) == 0
    assert not path.with_name("Data.fs.old").exists()


def test_revisions_current_in_the_last_days_are_kept(path: Path) -> None:
    before = path.read_bytes()
    assert main(["pack", "--days", "1", str(path)]) == 0
    assert path.read_bytes() == before


def test_an_open_file_is_not_packed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(ZODB.FileStorage.FileStorage(str(path))):
        before = path.read_bytes()
        assert main(["pack", str(path)]) == 2
        assert path.read_bytes() == before
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"zrs: cannot pack {path}: it is locked by another process"
    )


def test_no_file_is_created(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none.fs"
    assert main(["pack", str(path)]) == 2
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == f"zrs: cannot pack {path}: No such file or directory\n"


def test_a_file_of_python_2_is_not_packed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not GOLDEN.is_dir():
        pytest.skip(f"no captures at {GOLDEN}; ZRS_GOLDEN names their directory")
    path = tmp_path / "Data.fs"
    shutil.copy(GOLDEN / "py27-undo.fs", path)
    before = path.read_bytes()
    assert main(["pack", str(path)]) == 2
    assert path.read_bytes() == before
    assert capsys.readouterr().err.startswith(f"zrs: cannot pack {path}: ")


@pytest.mark.parametrize("days", ["-1", "nan", "inf", "many"])
def test_wrong_usage_exits_with_status_2(path: Path, days: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["pack", f"--days={days}", str(path)])
    assert exit_.value.code == 2


def test_blobs_are_packed_with_their_records(tmp_path: Path) -> None:
    path, blobs = tmp_path / "Data.fs", tmp_path / "blobs"
    storage = ZODB.FileStorage.FileStorage(str(path), blob_dir=str(blobs))
    with contextlib.closing(ZODB.DB(storage)) as database:
        for content in b"old", b"new":
            with database.transaction() as connection:
                connection.root()["blob"] = Blob(content)
    assert len(list(blobs.rglob("*.blob"))) == 2
    assert main(["pack", "--blob-dir", str(blobs), str(path)]) == 0
    (kept,) = (file for file in blobs.rglob("*.blob") if "old" not in file.parts)
    assert kept.read_bytes() == b"new"


def test_a_missing_blob_directory(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = path.read_bytes()
    assert main(["pack", "--blob-dir", str(tmp_path / "none"), str(path)]) == 2
    assert path.read_bytes() == before
    assert f"directory {tmp_path}/none does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("marker", [b".z", b".c"])
def test_records_that_a_layer_has_transformed(
    path: Path, marker: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of zc.zlibstorage are decoded, others are kept unchanged; neither is damage."""
    with contextlib.closing(ZODB.FileStorage.FileStorage(str(path))) as storage:
        data, serial = storage.load(z64)
        transaction = TransactionMetaData()
        storage.tpc_begin(transaction)
        storage.store(z64, serial, marker + zlib.compress(data), "", transaction)
        storage.tpc_vote(transaction)
        storage.tpc_finish(transaction)
        kept = len(storage)
    assert main(["check", str(path)]) == 0
    assert "1 object transformed by another layer, such as zc.zlib" in capsys.readouterr().out
    before = path.read_bytes()
    if marker == b".z":
        assert main(["pack", "--days", "1e9", str(path)]) == 0
        assert path.read_bytes() == before
        assert main(["pack", str(path)]) == 0
        with contextlib.closing(ZODB.FileStorage.FileStorage(str(path))) as storage:
            assert 0 < len(storage) <= kept
    else:
        assert main(["pack", str(path)]) == 2
        assert path.read_bytes() == before
        error = capsys.readouterr().err
        assert error.startswith(f"zrs: cannot pack {path}: its records are transformed by")
        assert main(["pack", "--no-gc", str(path)]) == 0
    assert main(["check", str(path)]) == 0
