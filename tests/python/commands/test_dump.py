"""``zrs dump``: its output agrees with what ZODB reads."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import ZODB
from ZODB.utils import get_pickle_metadata, oid_repr, tid_repr

from damage.database import build
from damage.kinds import tid_order
from damage.layout import transactions
from replicas.transactions import read_transactions
from streams.captures import DIRECTORY as GOLDEN
from zc.zrs import _zrs
from zc.zrs.command import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dump") / "Data.fs"
    build(path)
    return path


def dumped(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    assert main(["dump", "--json", *map(str, arguments)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def expected(path: Path) -> list[dict[str, Any]]:
    """Return the expected output, read with ZODB's code and the tests' own."""
    lines: list[dict[str, Any]] = []
    for layout, read in zip(
        transactions(path.read_bytes()), read_transactions(path), strict=True
    ):
        lines.append(
            {
                "type": "transaction",
                "tid": tid_repr(read.tid),
                "time": _zrs.tid_timestamp(read.tid),
                "position": layout.position,
                "status": read.status,
                "user": read.user.decode(),
                "description": read.description.decode(),
                "extension": base64.b64encode(read.extension).decode(),
            }
        )
        lines += (
            {
                "type": "record",
                "tid": tid_repr(record.tid),
                "oid": oid_repr(record.oid),
                "position": place.position,
                "length": None if record.data is None else len(record.data),
                "class": record.data and ".".join(get_pickle_metadata(record.data)),
                "data_tid": record.data_txn and tid_repr(record.data_txn),
            }
            for place, record in zip(layout.records, read.records, strict=True)
        )
    return lines


def test_json_agrees_with_what_zodb_reads(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = dumped(capsys, path)
    assert lines == expected(path)
    assert any(line.get("data_tid") for line in lines)
    assert any(line["type"] == "record" and line["length"] is None for line in lines)


def test_text_names_everything(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    read = expected(path)
    assert len(lines) == len(read)
    for line, values in zip(lines, read, strict=True):
        assert f"at {values['position']}" in line
        if values["type"] == "transaction":
            assert line.startswith(f"transaction {values['tid']} of {values['time']}")
            assert values["description"] in line
        else:
            assert line.startswith(f"  object {values['oid']} ")
            assert (values["class"] or "its creation is undone") in line
            assert (values["data_tid"] or "") in line


@pytest.mark.parametrize("by", ["tid", "time"])
@pytest.mark.parametrize(("first", "last"), [(0, 1), (2, 4), (5, 6), (3, 3)])
def test_a_range(
    path: Path, capsys: pytest.CaptureFixture[str], by: str, first: int, last: int
) -> None:
    whole = expected(path)
    heads = [line for line in whole if line["type"] == "transaction"]
    if by == "tid":
        start, stop = heads[first]["tid"], heads[last]["tid"]
    else:
        # Printed times have microseconds, and a tid differs from them by up to 14 ns.
        start = heads[first]["time"].replace(" ", "T")
        stop = heads[last]["time"].replace(" ", "T")
    lines = dumped(capsys, "--from", start, "--to", stop, path)
    wanted = [line["tid"] for line in heads[first : last + 1]]
    found = [line["tid"] for line in lines if line["type"] == "transaction"]
    if by == "tid":
        assert found == wanted
        begin = whole.index(heads[first])
        assert lines == whole[begin : begin + len(lines)]
    else:
        assert set(wanted[1:-1]) <= set(found) <= set(wanted)


def test_empty_ranges(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dumped(capsys, "--from", "2999-01-01", path) == []
    assert dumped(capsys, "--to", "1999-01-01T12:00", path) == []
    assert dumped(capsys, "--from", "0xffffffffffffffff", path) == []


@pytest.mark.parametrize("moment", ["yesterday", "0x", "0x123456789012345678", ""])
def test_invalid_transaction_ids_and_times(
    path: Path, moment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["dump", "--from", moment, str(path)])
    assert exit_.value.code == 2
    assert "is not a transaction id" in capsys.readouterr().err


def test_damage_ends_the_output(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(path.read_bytes())
    position = tid_order(data)
    damaged = tmp_path / "damaged.fs"
    damaged.write_bytes(data)
    assert main(["dump", "--json", str(damaged)]) == 1
    output, errors = capsys.readouterr()
    lines = [json.loads(line) for line in output.splitlines()]
    assert lines == [line for line in expected(path) if line["position"] < position]
    assert f"corrupt at position {position}" in errors


def test_files_of_python_2(capsys: pytest.CaptureFixture[str]) -> None:
    if not GOLDEN.is_dir():
        pytest.skip(f"no captures at {GOLDEN}; ZRS_GOLDEN names their directory")
    path = GOLDEN / "py27-undo.fs"
    positions = [
        place
        for transaction in transactions(path.read_bytes())
        for place in (transaction.position, *(r.position for r in transaction.records))
    ]
    assert [line["position"] for line in dumped(capsys, path)] == positions


def test_unreadable_files_exit_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dump", str(tmp_path / "none.fs")]) == 2
    assert capsys.readouterr().err.startswith("zrs: cannot dump ")


def test_a_reader_that_closes_the_pipe_is_not_an_error(path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "zc.zrs.command", "dump", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode in {0, 141}  # it may have ended before


def test_only_the_last_transaction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "Data.fs"
    with contextlib.closing(ZODB.DB(str(path))) as database:
        for number in range(600):
            with database.transaction() as connection:
                connection.root()["x"] = number
        last = database.storage.lastTransaction()
    # A command that read the whole file would report this damage.
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 40)
    assert main(["dump", "--json", "--last", str(path)]) == 0
    lines = list(map(json.loads, capsys.readouterr().out.splitlines()))
    assert [line["type"] for line in lines] == ["transaction", "record"]
    assert lines[0]["tid"] == tid_repr(last)


def test_the_last_transaction_of_an_incomplete_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "Data.fs"
    ZODB.DB(str(path)).close()
    with path.open("ab") as file:
        file.write(b"x" * 100)
    assert main(["dump", "--last", str(path)]) == 1
    assert "does not end with a complete transaction" in capsys.readouterr().err
    path.write_bytes(b"FS30")
    assert main(["dump", "--last", str(path)]) == 0
