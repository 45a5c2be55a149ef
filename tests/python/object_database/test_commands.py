"""The command ``dobbin``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import transaction

from dobbin.command import main
from object_database.things import Thing, change, elect

if TYPE_CHECKING:
    from collections.abc import Callable

    from dobbin.database import Database


def filled(db: Database) -> Path:
    root = elect(db, Thing(name="needle", child=Thing(name="child")))
    change(root, name="x" * 100)
    change(root, child=None)
    db.close()
    return Path(db.path)


def test_a_sound_database_has_no_problems(
    db: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    path = filled(db)
    before = path.read_bytes()
    assert main(["check", str(path)]) == 0
    assert capsys.readouterr().out == (
        "3 transactions (0 failed), 4 records, 2 objects: no problems\n"
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize("index", [True, False])
def test_damage_is_reported_with_offset_transaction_and_object(
    open_database: Callable[..., Database],
    capsys: pytest.CaptureFixture[str],
    *,
    index: bool,
) -> None:
    path = filled(open_database(sync="commit"))
    if not index:
        Path(f"{path}.index").unlink()
    content = path.read_bytes()
    at = content.index(b"needle")
    path.write_bytes(content[:at] + b"N" + content[at + 1 :])
    assert main(["check", str(path)]) == 1
    output = capsys.readouterr().out
    assert "transaction 1, object 1: a record's payload does not match" in output
    assert "1 problems" in output
    assert main(["dump", str(path)]) == 1


def test_an_unfinished_transaction_is_not_a_problem(
    db: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    path = filled(db)
    length = path.stat().st_size
    Path(f"{path}.index").unlink()
    path.write_bytes(path.read_bytes()[:-20])
    assert main(["check", str(path)]) == 0
    output = capsys.readouterr().out
    assert "bytes of an unfinished transaction" in output
    assert path.stat().st_size == length - 20


def test_dump_prints_everything(db: Database, capsys: pytest.CaptureFixture[str]) -> None:
    path = filled(db)
    assert main(["dump", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0].split(" at ")[0] for line in lines if line[0] == "t"] == [
        "transaction 1",
        "transaction 2",
        "transaction 3",
    ]
    assert sum("object of" in line for line in lines) == 4
    assert all("committed" in line for line in lines if line[0] == "t")


def test_compact_keeps_the_current_objects(
    db: Database, open_database: Callable[..., Database], capsys: pytest.CaptureFixture[str]
) -> None:
    reader = open_database()
    path = filled(db)
    before = path.stat().st_size
    assert main(["compact", str(path)]) == 0
    assert f"compacted from {before} to {path.stat().st_size} bytes" in capsys.readouterr().out
    transaction.begin()
    assert (reader.root.name, len(reader)) == ("x" * 100, 2)
    assert main(["compact", "--drop-unreachable", str(path)]) == 0
    transaction.begin()
    assert (reader.root.name, len(reader)) == ("x" * 100, 1)
    assert main(["check", str(path)]) == 0


def test_a_file_that_is_not_a_database_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.write_text("something else, and longer than a header")
    for command in "check", "dump", "compact":
        assert main([command, str(other)]) == 2
        assert "not a dobbin database" in capsys.readouterr().err
        assert main([command, str(tmp_path / "missing")]) == 2
        assert "No such file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [other]


def test_it_runs_as_a_program(db: Database) -> None:
    path = filled(db)
    program = [sys.executable, "-m", "dobbin", "check", str(path)]
    done = subprocess.run(program, check=True, capture_output=True, text=True)
    assert "no problems" in done.stdout
