"""``zrs check``: all kinds of damage, compared with ZODB's fstest and fsrefs."""

from __future__ import annotations

import contextlib
import io
import random
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import pytest
import ZODB.blob
import ZODB.FileStorage
from hypothesis import given, settings
from hypothesis import strategies as st
from ZODB.Connection import TransactionMetaData
from ZODB.fsIndex import fsIndex
from ZODB.POSException import UndoError
from ZODB.scripts import fsrefs, fstest
from ZODB.utils import oid_repr, p64, u64, z64

from damage.database import build
from damage.kinds import DAMAGES, IN_THE_LAST, backpointer_target
from damage.layout import transactions
from replicas.processes import program, read_line
from streams.captures import DIRECTORY as GOLDEN
from zc.zrs import _zrs
from zc.zrs.command import main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from damage.kinds import Damage

PACKS = Path(__file__).parents[2] / "data" / "packs"


class Found(NamedTuple):
    kind: str
    pos: int
    tid: bytes | None
    oid: bytes | None
    reference: tuple[bytes, str] | None


def check(path: Path, step: int = 1 << 20, **options: Any) -> list[Found]:
    native = _zrs.Check(path, **options)
    found: list[Found] = []
    phase = ""
    while phase != "done":
        phase, done, total = native.step(step)
        assert done <= total
        found += (
            Found(p.kind, p.pos, p.tid, p.oid, p.reference) for p in native.take_problems()
        )
    return found


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "Data.fs"
    build(path)
    return path


@pytest.fixture
def path(tmp_path: Path, good: Path) -> Path:
    """Copy the database and its index."""
    for suffix in "", ".index":
        shutil.copy(f"{good}{suffix}", tmp_path / f"Data.fs{suffix}")
    return tmp_path / "Data.fs"


def damage_file(path: Path, damage: Damage) -> int:
    data = bytearray(path.read_bytes())
    position = damage(data)
    path.write_bytes(data)
    return position


def test_a_good_database_has_no_problems(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(path) == []
    assert check(path, step=1) == []
    assert main(["check", str(path)]) == 0
    layout = transactions(path.read_bytes())
    records = [record for transaction in layout for record in transaction.records]
    objects = len({record.oid for record in records})
    assert capsys.readouterr().out == (
        f"{len(layout)} transactions, {len(records)} records, {objects} objects: no problems\n"
    )


@pytest.mark.parametrize(
    ("kind", "damage"), DAMAGES, ids=[damage.__name__ for _, damage in DAMAGES]
)
def test_damage_is_found_where_it_is(
    path: Path, kind: str, damage: Damage, capsys: pytest.CaptureFixture[str]
) -> None:
    position = damage_file(path, damage)
    size = path.stat().st_size
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    found = check(path)
    assert (kind, position) in [problem[:2] for problem in found]
    assert all(p.pos <= size for p in found if not p.kind.startswith("index"))
    assert check(path, step=1) == found
    assert main(["check", str(path)]) == 1
    output = capsys.readouterr().out
    assert f"position {position}" in output
    # No file was changed or created.
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        pytest.param(kind, damage, id=damage.__name__)
        for kind, damage in DAMAGES
        if damage not in IN_THE_LAST
    ],
)
def test_data_after_damage_are_still_checked(path: Path, kind: str, damage: Damage) -> None:
    """A second problem, in the last transaction, is reported as well."""
    data = bytearray(path.read_bytes())
    position = damage(data)
    layout = transactions(path.read_bytes())
    record = layout[-1].records[-1]
    assert position < layout[-1].position
    data[record.position + 31] ^= 1  # in its transaction's position
    path.write_bytes(data)
    found = [problem[:2] for problem in check(path)]
    assert (kind, position) in found
    assert ("tloc", record.position) in found


def test_a_problem_names_its_transaction_and_object(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    position = damage_file(path, backpointer_target)
    (transaction,) = (
        t for t in transactions(path.read_bytes()) for r in t.records if r.position == position
    )
    (problem,) = (problem for problem in check(path) if problem.pos == position)
    (record,) = (record for record in transaction.records if record.position == position)
    assert (problem.tid, problem.oid) == (transaction.tid, record.oid)
    assert main(["check", str(path)]) == 1
    line = capsys.readouterr().out.splitlines()[0]
    assert f"tid 0x{transaction.tid.hex()}, oid {oid_repr(record.oid)}: backpointer" in line


# --- The index file


def indexed(path: Path) -> tuple[Path, dict[bytes, int], int]:
    """Return the index file, its contents, and the end position that it covers."""
    index_path = Path(f"{path}.index")
    loaded = fsIndex.load(str(index_path))
    return index_path, dict(loaded["index"].items()), loaded["pos"]


def save_index(path: Path, entries: dict[bytes, int], pos: int) -> None:
    index = fsIndex()
    index.update(entries)
    index.save(pos, str(path))


def test_an_older_index_is_good(path: Path) -> None:
    layout = transactions(path.read_bytes())
    entries = {r.oid: r.position for t in layout[:-1] for r in t.records}
    save_index(Path(f"{path}.index"), entries, layout[-1].position)
    assert check(path) == []


def test_wrong_positions_in_the_index(path: Path) -> None:
    index_path, entries, pos = indexed(path)
    first, *_, last = sorted(entries)
    truth = dict(entries)
    del entries[first]
    entries[last] += 1
    entries[p64(1000)] = 4
    save_index(index_path, entries, pos)
    assert check(path) == [
        Found("index-entry", truth[first], None, first, None),
        Found("index-entry", truth[last], None, last, None),
        Found("index-entry", 4, None, p64(1000), None),
    ]
    assert check(path, index=False) == []
    assert main(["check", "--no-index", str(path)]) == 0


def test_many_wrong_positions_are_counted(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index_path, entries, pos = indexed(path)
    save_index(index_path, {oid: at + 1 for oid, at in entries.items()}, pos)
    kinds = [problem.kind for problem in check(path)]
    assert kinds == ["index-entry"] * 20 + ["index-entries"]
    assert main(["check", str(path)]) == 1
    assert f"has {len(entries) - 20} more wrong positions" in capsys.readouterr().out


def test_an_index_of_another_file(path: Path) -> None:
    index_path, entries, pos = indexed(path)
    save_index(index_path, entries, pos - 1)
    assert check(path) == [Found("index-end", pos - 1, None, None, None)]


def test_an_invalid_index(path: Path) -> None:
    Path(f"{path}.index").write_bytes(b"no index")
    assert [problem.kind for problem in check(path)] == ["index-unreadable"]


# --- References


def reference_to(*oids: bytes) -> bytes:
    """Return a record that refers to objects."""
    references = (b"C\x08" + oid + b"capp.models\nThing\n\x86Q" for oid in oids)
    return b"capp.models\nFolder\n.(" + b"".join(references) + b"t."


def restore(storage: Any, oid: bytes, data: bytes | None) -> None:
    """Commit a record unchanged; None undoes the object's creation."""
    with committing(storage) as (meta, tid):
        storage.restore(oid, tid, data, "", None, meta)


@contextlib.contextmanager
def committing(storage: Any) -> Iterator[tuple[Any, bytes]]:
    meta = TransactionMetaData()
    tid = p64(u64(storage.lastTransaction()) + 1000)
    storage.tpc_begin(meta, tid)
    yield meta, tid
    storage.tpc_vote(meta)
    storage.tpc_finish(meta)


def test_dangling_references_with_their_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "Data.fs"
    storage = ZODB.FileStorage.FileStorage(str(path))
    restore(storage, z64, reference_to(p64(1), p64(2), p64(3)))
    restore(storage, p64(1), reference_to())
    restore(storage, p64(1), None)
    restore(storage, p64(3), reference_to())
    storage.close()
    (root,) = (r for t in transactions(path.read_bytes()) for r in t.records if r.oid == z64)
    assert check(path) == [
        Found("dangling", root.position, root.tid, z64, (p64(1), "object creation was undone")),
        Found("dangling", root.position, root.tid, z64, (p64(2), "missing")),
    ]
    assert main(["check", str(path)]) == 1
    output = capsys.readouterr().out
    assert "oid 0x00 app.models.Folder: refers to invalid object" in output
    assert "0x01 object creation was undone: app.models.Thing" in output
    assert "0x02 missing: app.models.Thing" in output
    assert check(path, references=False) == []
    assert main(["check", "--no-references", str(path)]) == 0


def fsrefs_findings(path: Path) -> set[tuple[bytes, bytes, str]]:
    output = io.StringIO()
    with contextlib.ExitStack() as stack, contextlib.redirect_stdout(output):

        def opened(*arguments: Any, **options: Any) -> Any:
            storage = ZODB.FileStorage.FileStorage(*arguments, **options)
            return stack.enter_context(contextlib.closing(storage))

        # fsrefs leaves its storage open.
        stack.enter_context(mock.patch.object(fsrefs, "FileStorage", opened))
        fsrefs.main(str(path))
    found = set()
    referring = z64
    for line in output.getvalue().splitlines():
        if subject := re.match(r"oid 0x([0-9a-f]+) ", line):
            referring = p64(int(subject[1], 16))
        elif reference := re.match(r"\toid 0x([0-9a-f]+) (.+): '.*'$", line):
            found.add((referring, p64(int(reference[1], 16)), reference[2]))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_dangling_references_are_those_of_fsrefs(tmp_path: Path, seed: int) -> None:
    """A random graph; some objects are never stored, deleted, undone or broken."""
    chance = random.Random(seed)  # noqa: S311 -- it must come out the same again
    path = tmp_path / "Data.fs"
    storage = ZODB.FileStorage.FileStorage(str(path))
    for _ in range(60):
        choice = chance.random()
        if choice < 0.15:
            restore(storage, p64(chance.randrange(30)), None)
        elif choice < 0.4 and (log := storage.undoLog(0, 10)):
            with committing(storage) as (meta, _), contextlib.suppress(UndoError):
                storage.undo(chance.choice(log)["id"], meta)
        else:
            others = [p64(chance.randrange(40)) for _ in range(chance.randrange(5))]
            restore(storage, p64(chance.randrange(30)), reference_to(*others))
    storage.close()
    data = bytearray(path.read_bytes())
    back = [r for t in transactions(data) for r in t.records if r.back]
    for record in chance.sample(back, len(back) // 2):
        # ZODB loads whatever a backpointer refers to, so let it refer to nothing.
        data[record.content : record.content + 8] = p64(len(data))
    path.write_bytes(data)
    native = {
        (problem.oid, *problem.reference)
        for problem in check(path)
        if problem.reference is not None
    }
    assert native == fsrefs_findings(path)
    assert native


# --- ZODB's own findings


def fstest_complains(path: Path) -> bool:
    # fstest itself fails on some damage, which counts as a finding too.
    try:
        fstest.check(str(path))
    except Exception:  # noqa: BLE001
        return True
    return False


@pytest.mark.parametrize("pack", sorted(PACKS.glob("*.fs")), ids=lambda path: path.stem)
def test_files_packed_by_zodb_have_no_structural_problem(pack: Path) -> None:
    if pack.stat().st_size:
        assert not fstest_complains(pack)
        assert check(pack, references=False) == []


@pytest.mark.parametrize("name", ["py27-plain", "py27-undo", "py38-undo", "doc2007-primary"])
def test_files_of_python_2_and_3(name: str) -> None:
    if not GOLDEN.is_dir():
        pytest.skip(f"no captures at {GOLDEN}; ZRS_GOLDEN names their directory")
    path = GOLDEN / f"{name}.fs"
    assert check(path) == []
    native = _zrs.Check(path)
    while native.step(1 << 20)[0] != "done":
        pass
    layout = transactions(path.read_bytes())
    records = [record for transaction in layout for record in transaction.records]
    objects = {record.oid for record in records}
    assert native.counts == (len(layout), len(records), len(objects))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_problems_that_fstest_finds_are_found(good: Path, data: st.DataObject) -> None:
    """Bytes flipped, cut out, put in; zeros; a file cut off or grown."""
    content = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(1, 4), label="damages")):
        at = data.draw(st.integers(4, len(content)), label="position")
        length = data.draw(st.sampled_from([1, 2, 8, 100, 1000]), label="length")
        match data.draw(st.sampled_from(["flip", "cut", "insert", "zero", "end"])):
            case "flip":
                content[at : at + 1] = bytes([data.draw(st.integers(0, 255))])
            case "cut":
                del content[at : at + length]
            case "insert":
                content[at:at] = data.draw(st.binary(max_size=length))
            case "zero":
                content[at : at + length] = bytes(len(content[at : at + length]))
            case "end":
                del content[at:]
    path = good.with_name("damaged.fs")
    path.write_bytes(content)
    found = check(path)
    if fstest_complains(path):
        assert found
    if content == good.read_bytes():
        assert not found


# --- Blobs


@pytest.mark.parametrize("layout", ["bushy", "lawn"])
def test_a_missing_blob_file_is_named(
    tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, directory = tmp_path / "Data.fs", tmp_path / "blobs"
    directory.mkdir()
    (directory / ".layout").write_text(layout)
    database = ZODB.DB(ZODB.FileStorage.FileStorage(str(path), blob_dir=str(directory)))
    with contextlib.closing(database), database.transaction() as connection:
        for name in "ab":
            connection.root()[name] = ZODB.blob.Blob(name.encode())
    command = ["check", "--blob-dir", str(directory), str(path)]
    assert main(command) == 0
    missing = min(directory.rglob("*.blob"))
    missing.unlink()
    (record,) = (
        record
        for transaction in transactions(path.read_bytes())
        for record in transaction.records
        if p64(int(missing.parent.name, 16)) == record.oid
    )
    assert main(["check", str(path)]) == 0  # without --blobs
    capsys.readouterr()
    assert main(command) == 1
    line, _ = capsys.readouterr().out.splitlines()
    assert line.startswith(f"position {record.position}, tid 0x{record.tid.hex()}, oid ")
    assert line.endswith(f"the blob's file {missing} is missing")
    assert main(["check", "--blob-dir", str(tmp_path / "none"), str(path)]) == 2


# --- The command


@pytest.mark.parametrize("content", [b"", b"FS3", b"nothing like it", None])
def test_unreadable_files_exit_with_status_2(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "Data.fs"
    if content is not None:
        path.write_bytes(content)
    assert main(["check", str(path)]) == 2
    output, errors = capsys.readouterr()
    assert not output
    assert errors.startswith(f"zrs: cannot check {path}: ")
    assert len(errors.splitlines()) == 1


def test_wrong_usage_exits_with_status_2() -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["check"])
    assert exit_.value.code == 2


WRITING = """
import ZODB
import transaction

from zc.zrs.filestorage import FileStorage

connection = ZODB.DB(FileStorage(sys.argv[1])).open()
print("open", flush=True)
while True:
    connection.root()["number"] = connection.root().get("number", 0) + 1
    transaction.commit()
"""


def test_a_file_that_is_being_written_has_no_problem_at_its_end(tmp_path: Path) -> None:
    """Checks of a live file often found a transaction that was not finished yet."""
    path = tmp_path / "live.fs"
    with program(WRITING, path) as process:
        assert read_line(process) == "open"
        for _ in range(40):
            assert check(path) == []
        assert process.poll() is None
        process.kill()
