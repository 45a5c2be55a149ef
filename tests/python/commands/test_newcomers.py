"""Errors for paths that are not a database, or that the commands cannot use."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import ZODB.FileStorage

import zc.zrs
from damage.database import build
from zc.zrs.command import main

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = ("check", "dump", "pack", "recover")
NOBODY = 65534
EMPTY = "the file is empty"
PYTHON_2 = "the file was written by Python 2 and is read-only"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "Data.fs"
    build(path)
    return path


def arguments(command: str, path: Path) -> list[str]:
    target = [str(path.with_name("recovered.fs"))] if command == "recover" else []
    return [command, str(path), *target]


def refusal(command: str, path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the error of a command that refuses a path and changes nothing."""
    before = contents(path.parent)
    assert main(arguments(command, path)) == 2
    assert contents(path.parent) == before
    output, errors = capsys.readouterr()
    assert not output
    (line,) = errors.splitlines()
    assert line.startswith(f"zrs: cannot {command} {path}: ")
    return line.partition(f"{path}: ")[2]


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


@pytest.mark.parametrize("command", COMMANDS)
def test_files_that_are_not_databases(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "Data.fs"
    assert refusal(command, path, capsys) == "No such file or directory"
    assert refusal(command, tmp_path, capsys) == "Is a directory"
    path.write_bytes(b"")
    assert refusal(command, path, capsys) == EMPTY
    path.write_bytes(b"<html>")
    assert "not a Data.fs: it begins with" in refusal(command, path, capsys)


def test_a_file_of_python_2_is_not_packed(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "Data.fs"
    path.write_bytes(b"FS21" + good.read_bytes()[4:])
    assert refusal("pack", path, capsys) == PYTHON_2
    assert all(main(arguments(name, path)) == 0 for name in COMMANDS if name != "pack")


def skip_without(path: Path) -> None:
    """Skip the test if this user cannot enter a directory above a file."""
    try:
        path.stat()
    except PermissionError:
        pytest.skip(f"{path.parent} cannot be entered by ordinary users")


@pytest.fixture
def database_of_others(good: Path) -> Iterator[Path]:
    """Yield an unreadable database while the process runs as an ordinary user."""
    # Other users cannot enter pytest's directory.
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "Data.fs"
        shutil.copy(good, path)
        path.chmod(0)
        path.parent.chmod(0o777)
        with ordinary_user():
            skip_without(path)
            skip_without(Path(zc.zrs.__file__))
            yield path


@contextlib.contextmanager
def ordinary_user() -> Iterator[None]:
    """Become an ordinary user if the process is root's."""
    superuser = os.geteuid()
    if superuser != 0:
        yield
        return
    try:
        os.seteuid(NOBODY)
    except OSError as error:
        pytest.skip(f"root can read everything, and cannot become another user: {error}")
    try:
        yield
    finally:
        os.seteuid(superuser)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_permission(
    command: str, database_of_others: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = database_of_others
    assert main(arguments(command, path)) == 2
    errors = capsys.readouterr().err
    assert errors == f"zrs: cannot {command} {path}: Permission denied\n"
    assert list(path.parent.iterdir()) == [path]


def test_a_database_in_use_is_read_but_not_packed(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "Data.fs"
    shutil.copy(good, path)
    storage = ZODB.FileStorage.FileStorage(str(path))
    try:
        assert refusal("pack", path, capsys) == "it is locked by another process"
        assert all(main(arguments(name, path)) == 0 for name in COMMANDS if name != "pack")
    finally:
        storage.close()
