"""``zrs recover``: what it saves from each kind of damage, compared with fsrecover."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from unittest import mock

import pytest
import ZODB
import ZODB.FileStorage
from hypothesis import given, settings
from hypothesis import strategies as st
from ZODB import fsrecover

from damage import kinds
from damage.database import build
from damage.layout import transactions
from replicas.transactions import read_transactions
from streams.captures import DIRECTORY as GOLDEN
from zc.zrs import _zrs
from zc.zrs.command import main

if TYPE_CHECKING:
    from damage.kinds import Damage

ZODB_MAJOR = int(importlib.metadata.version("ZODB").split(".")[0])
PACKS = Path(__file__).parents[2] / "data" / "packs"
# Number of files that are damaged at random.
SEEDS = int(os.environ.get("ZRS_RECOVER_SEEDS", "48"))

# Damage to a redundant field, whose value is known from elsewhere: nothing is lost.
MENDED: list[Damage] = [
    kinds.status,
    kinds.header_length,
    kinds.redundant_length,
    kinds.transaction_tid,
    kinds.record_tid,
    kinds.tloc,
    kinds.previous,
    kinds.version,
]
# Damage that loses its transaction, numbered as in `damage.kinds`.
LOST: list[tuple[Damage, int]] = [
    (kinds.transaction_length, kinds.MIDDLE),
    (kinds.tid_order, kinds.MIDDLE),
    (kinds.backpointer, kinds.UNDO),
    (kinds.backpointer_target, kinds.UNDO),
    (kinds.backpointer_oid, kinds.UNDO),
    (kinds.unfinished, kinds.LAST),
    (kinds.beyond_end, kinds.LAST),
    (kinds.record_too_short, kinds.LAST),
    (kinds.no_record, kinds.LAST),
]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "Data.fs"
    build(path)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "recovered.fs"


def damaged(good: Path, tmp_path: Path, damage: Damage) -> Path:
    data = bytearray(good.read_bytes())
    damage(data)
    path = tmp_path / "damaged.fs"
    path.write_bytes(data)
    return path


def contents(path: Path) -> list[tuple[bytes, str, bytes, dict[bytes, bytes | None]]]:
    """Return tid, status, description and data of the transactions, as ZODB reads them."""
    return [
        (t.tid, t.status, t.description, {r.oid: r.data for r in t.records})
        for t in read_transactions(path)
    ]


def check(path: Path) -> list[str]:
    native = _zrs.Check(path, references=False)
    while native.step(1 << 20)[0] != "done":
        pass
    return [problem.kind for problem in native.take_problems()]


def fsrecover_to(source: Path, target: Path, *, partial: bool = False) -> None:
    endless = fsrecover.scan
    with (
        contextlib.redirect_stdout(io.StringIO()),
        mock.patch.object(fsrecover, "scan", lambda file, pos: endless(_ReadOnce(file), pos)),
    ):
        fsrecover.recover(str(source), str(target), partial=partial)


class _ReadOnce:
    """A file that appears to end when it is read again from the same position.

    fsrecover does that forever if one of the last eight bytes of the file is a period.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._last: int | None = None

    def seek(self, position: int) -> None:
        self._file.seek(position)

    def read(self, size: int) -> bytes:
        position = self._file.tell()
        last, self._last = self._last, position
        return b"" if position == last else self._file.read(size)


# --- What is saved


@pytest.mark.parametrize("damage", MENDED)
def test_redundant_fields_are_repaired(
    good: Path, tmp_path: Path, target: Path, damage: Damage, capsys: pytest.CaptureFixture[str]
) -> None:
    source = damaged(good, tmp_path, damage)
    assert main(["recover", str(source), str(target)]) == 0
    assert contents(target) == contents(good)
    if damage is not kinds.record_tid:  # backpointers are found by it
        assert target.read_bytes() == good.read_bytes()
    lines = capsys.readouterr().out.splitlines()
    if damage is not kinds.previous:  # it is not read
        assert all(line.startswith("mended: position ") for line in lines[:-1])
        assert len(lines) > 1
    assert lines[-1].endswith(f"lost 0 of {source.stat().st_size} bytes")


@pytest.mark.parametrize(("damage", "number"), LOST)
def test_a_damaged_transaction_is_lost_and_no_other(
    good: Path, tmp_path: Path, damage: Damage, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = damaged(good, tmp_path, damage), tmp_path / "recovered.fs"
    position = damage(bytearray(good.read_bytes()))
    assert main(["recover", str(source), str(target)]) == 1
    expected = contents(good)
    lost = expected.pop(number)
    saved = contents(target)
    assert [tid for tid, *_ in saved] == [tid for tid, *_ in expected]
    assert saved == expected
    assert check(target) == []
    line, last = capsys.readouterr().out.splitlines()
    assert line.startswith("lost ")
    assert f"position {position}" in line
    transaction = transactions(good.read_bytes())[number]
    assert lost[0] == transaction.tid
    # All of its bytes in the damaged file.
    longer = source.stat().st_size - good.stat().st_size
    count = transaction.length + 8 + longer
    assert line.split()[1] == str(count)
    assert last.endswith(f"lost {count} of {source.stat().st_size} bytes")


def test_data_that_are_lost_are_lost_to_later_transactions_too(
    good: Path, tmp_path: Path, target: Path
) -> None:
    """The undo restores the data of the damaged record."""
    source = damaged(good, tmp_path, kinds.record_too_long)
    assert main(["recover", str(source), str(target)]) == 1
    expected = contents(good)
    del expected[kinds.UNDO], expected[kinds.MIDDLE]
    assert contents(target) == expected


def test_bytes_behind_the_last_transaction_are_lost(
    good: Path, tmp_path: Path, target: Path
) -> None:
    source = damaged(good, tmp_path, kinds.fragment)
    assert main(["recover", str(source), str(target)]) == 1
    assert target.read_bytes() == good.read_bytes()


def test_partial_keeps_the_records_before_the_damage(
    good: Path, tmp_path: Path, target: Path
) -> None:
    """The length of the second record of the last transaction is wrong."""
    data = bytearray(good.read_bytes())
    *_, transaction = transactions(data)
    first, second = transaction.records
    data[second.position + 34 : second.position + 36] = b"\xff\xff"
    source = tmp_path / "damaged.fs"
    source.write_bytes(data)
    assert main(["recover", "--partial", str(source), str(target)]) == 1
    *expected, last = contents(good)
    assert contents(target) == [*expected, (*last[:3], {first.oid: last[3][first.oid]})]
    assert check(target) == []


def test_zeros_over_several_transactions(good: Path, tmp_path: Path, target: Path) -> None:
    layout = transactions(good.read_bytes())
    data = bytearray(good.read_bytes())
    start, end = layout[2].position + 10, layout[3].end - 10
    data[start:end] = bytes(end - start)
    source = tmp_path / "damaged.fs"
    source.write_bytes(data)
    assert main(["recover", str(source), str(target)]) == 1
    saved = {tid for tid, *_ in contents(target)}
    # The transaction that it undoes is lost, and so is the undo.
    gone = {layout[2].tid, layout[3].tid}
    assert saved >= {t.tid for t in layout} - gone - {layout[4].tid}
    assert not saved & gone
    assert check(target) == []


def test_the_copy_is_a_database_that_goes_on(good: Path, tmp_path: Path, target: Path) -> None:
    source = damaged(good, tmp_path, kinds.record_too_long)
    main(["recover", str(source), str(target)])
    assert Path(f"{target}.index").exists()
    database = ZODB.DB(ZODB.FileStorage.FileStorage(str(target)))
    with contextlib.closing(database), database.transaction() as connection:
        assert connection.root()["a"]["text"] == "three"
        connection.root()["more"] = 1


# --- ZODB's fsrecover


@pytest.mark.parametrize("source", sorted(PACKS.glob("*.fs")), ids=lambda path: path.stem)
def test_a_good_file_is_copied_as_fsrecover_copies_it(
    source: Path, tmp_path: Path, target: Path
) -> None:
    if not source.stat().st_size:
        assert main(["recover", str(source), str(target)]) == 2
        return
    theirs = tmp_path / "theirs.fs"
    fsrecover_to(source, theirs)
    assert main(["recover", str(source), str(target)]) == 0
    if ZODB_MAJOR < 6 and has_an_object_twice(source):
        # Of such records ZODB 5 restores the first, and ZODB 6 the last.
        assert contents(target) == contents(source)
    else:
        assert target.read_bytes() == theirs.read_bytes()


def has_an_object_twice(path: Path) -> bool:
    return any(
        len({record.oid for record in transaction.records}) < len(transaction.records)
        for transaction in transactions(path.read_bytes())
    )


@pytest.mark.parametrize(
    "damage", [*MENDED, *(damage for damage, _ in LOST), kinds.fragment, kinds.record_too_long]
)
def test_nothing_that_fsrecover_saves_is_lost(
    good: Path, tmp_path: Path, target: Path, damage: Damage
) -> None:
    source = damaged(good, tmp_path, damage)
    theirs = tmp_path / "theirs.fs"
    fsrecover_to(source, theirs)
    main(["recover", "--partial", str(source), str(target)])
    ours = contents(target)
    truth = {t[0]: t[3] for t in contents(good)}
    for tid, _, _, records in contents(theirs):
        saved: dict[bytes, bytes | None] = next((t[3] for t in ours if t[0] == tid), {})
        for oid, data in records.items():
            # fsrecover also makes up data that were never stored.
            if truth.get(tid, {}).get(oid) == data:
                assert saved[oid] == data


def damaged_at_random(good: bytes, seed: int) -> bytes:
    """Return a file with a few bytes flipped, zeroed, cut out, or inserted."""
    chance = random.Random(seed)  # noqa: S311 -- places, not secrets
    content = bytearray(good)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(4, len(content))
        length = chance.choice([1, 8, 60, 512])
        match chance.choice(["flip", "zero", "cut", "insert", "end"]):
            case "flip":
                content[at] ^= 1 << chance.randrange(8)
            case "zero":
                content[at : at + length] = bytes(len(content[at : at + length]))
            case "cut":
                del content[at : at + length]
            case "insert":
                content[at:at] = chance.randbytes(length)
            case "end":
                del content[max(at, len(content) - length) :]
    return bytes(content)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_at_least_as_much_as_by_fsrecover_is_saved_from_random_damage(
    good: Path, tmp_path: Path, target: Path, seed: int
) -> None:
    source, theirs = tmp_path / "damaged.fs", tmp_path / "theirs.fs"
    source.write_bytes(damaged_at_random(good.read_bytes(), seed))
    fsrecover_to(source, theirs)
    assert main(["recover", str(source), str(target)]) in {0, 1}
    true = contents(good)
    by_them = [transaction for transaction in contents(theirs) if transaction in true]
    by_us = contents(target)
    assert len(by_us) >= len(by_them)
    assert [transaction for transaction in by_them if transaction not in by_us] == []


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_the_copy_of_any_damaged_file_is_valid(good: Path, data: st.DataObject) -> None:
    content = bytearray(good.read_bytes())
    untouched = transactions(content)
    for _ in range(data.draw(st.integers(1, 3), label="damages")):
        at = data.draw(st.integers(4, len(content)), label="position")
        length = data.draw(st.sampled_from([1, 8, 100, 1000]), label="length")
        match data.draw(st.sampled_from(["flip", "cut", "insert", "end"])):
            case "flip":
                content[at : at + 1] = bytes([data.draw(st.integers(0, 255))])
            case "cut":
                del content[at : at + length]
            case "insert":
                content[at:at] = data.draw(st.binary(max_size=length))
            case "end":
                del content[at:]
    source, target = good.with_name("random.fs"), good.with_name("recovered.fs")
    source.write_bytes(content)
    for old in target, Path(f"{target}.index"):
        old.unlink(missing_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):
        status = main(["recover", str(source), str(target)])
    assert status in {0, 1}
    assert check(target) == []
    # ZODB reads all data that were not damaged or moved.
    saved = {tid for tid, *_ in contents(target)}
    original = good.read_bytes()
    for transaction in untouched:
        where = slice(transaction.position, transaction.end)
        backpointers = any(record.back for record in transaction.records)
        if content[where] == original[where] and not backpointers:
            assert transaction.tid in saved


# --- Files and refusals


@pytest.mark.parametrize("name", ["py27-plain", "py27-undo"])
def test_files_of_python_2_stay_so(name: str, target: Path) -> None:
    if not GOLDEN.is_dir():
        pytest.skip(f"no captures at {GOLDEN}; ZRS_GOLDEN names their directory")
    source = GOLDEN / f"{name}.fs"
    assert main(["recover", str(source), str(target)]) == 0
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("existing", ["recovered.fs", "recovered.fs.index"])
def test_nothing_is_overwritten(
    good: Path, tmp_path: Path, target: Path, existing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / existing).write_bytes(b"precious")
    assert main(["recover", str(good), str(target)]) == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        existing: b"precious"
    }
    assert "exists" in capsys.readouterr().err


def test_a_file_is_not_recovered_into_itself(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "Data.fs"
    shutil.copy(good, path)
    assert main(["recover", str(path), str(path)]) == 2
    assert path.read_bytes() == good.read_bytes()


@pytest.mark.parametrize("content", [None, b"", b"nothing like a storage"])
def test_unreadable_files_leave_nothing_behind(
    tmp_path: Path, target: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source.fs"
    if content is not None:
        source.write_bytes(content)
    assert main(["recover", str(source), str(target)]) == 2
    assert not target.exists()
    errors = capsys.readouterr().err
    assert errors.startswith("zrs: cannot ")
    assert len(errors.splitlines()) == 1
