"""Faults of dobbin 0.1 to 0.3, each reproduced there; none may occur again."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import transaction

from dobbin.database import Database
from dobbin.exc import IntegrityError, WriteConflictError
from dobbin.persistent import Persistent, PersistentDict, PersistentFile, checkout
from object_database.things import Counter, Thing, change, elect, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = Path(__file__).with_name("committing.py")
PROCESSES = 8
COMMITS = 25


def test_oids_continue_after_reopening(
    db: Database, open_database: Callable[..., Database]
) -> None:
    root = elect(db, Thing(name="root", other=Thing(name="other")))
    oids = {root._p_oid, root.other._p_oid}
    db.close()
    again = open_database()
    change(again.root, third=Thing(name="third"))
    assert again.root.third._p_oid not in oids
    third = open_database()
    root = third.root
    assert (root.name, root.other.name, root.third.name) == ("root", "other", "third")
    assert len(third) == 3


def test_aborted_data_are_not_applied_when_the_file_is_opened(
    db: Database, open_database: Callable[..., Database]
) -> None:
    root = elect(db, Thing(name="committed"))
    checkout(root)
    root.name = "lost"
    in_thread(lambda: change(db.root, other=1))
    with pytest.raises(WriteConflictError):
        transaction.commit()
    transaction.abort()
    checkout(root)
    root.name = lambda: None  # cannot be pickled: the write fails
    with pytest.raises(Exception, match=r"pickle|local"):
        transaction.commit()
    transaction.abort()
    db.close()
    again = open_database()
    assert again.root.name == "committed"
    assert again.tx_count == 4


def test_a_snapshot_has_the_objects(
    db: Database, open_database: Callable[..., Database]
) -> None:
    root = elect(db, Thing(name="root", child=Thing(name="child")))
    change(root, file=PersistentFile(io.BytesIO(b"bytes")))
    before = time.time()
    change(root, name="later")
    target = open_database("target")
    db.snapshot(target)
    db.snapshot(earlier := open_database("earlier"), before)
    target.close()
    for copy, name in ((open_database("target"), "later"), (earlier, "root")):
        root = copy.root
        assert (root.name, root.child.name) == (name, "child")
        assert b"".join(root.file) == b"bytes"
        assert (len(copy), copy.tx_count) == (2, 1)
        change(root, name="changed")
        assert copy.tx_count == 2


def test_a_commit_waits_for_a_busy_lock_and_later_commits_are_kept(
    db: Database, open_database: Callable[..., Database]
) -> None:
    root = elect(db, Thing(name="root"))
    other = open_database()
    other._p_store.log.lock()
    committed = threading.Event()

    def commit() -> None:
        change(db.root, name="waited")
        change(db.root, name="and again")
        committed.set()

    thread = threading.Thread(target=commit)
    thread.start()
    assert not committed.wait(0.1)
    other._p_store.log.unlock()
    thread.join()
    assert root.name == "and again"
    assert open_database().root.name == "and again"


def test_processes_that_change_different_objects_lose_nothing(
    db: Database, tmp_path: Path
) -> None:
    """Eight processes change one object each: all reported commits are kept."""
    root = elect(db, PersistentDict({n: Counter() for n in range(PROCESSES)}))
    arguments = [sys.executable, str(PROGRAM), str(tmp_path / "objects"), str(COMMITS)]
    processes = [
        subprocess.Popen([*arguments, str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(PROCESSES)
    ]
    reported = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES
    assert [len(lines.split()) for lines in reported] == [COMMITS] * PROCESSES
    transaction.begin()
    assert [root[n].count for n in range(PROCESSES)] == [COMMITS] * PROCESSES
    assert db.tx_count == 1 + PROCESSES * COMMITS


def test_threads_on_one_database_do_not_corrupt_each_other(db: Database) -> None:
    root = elect(db, PersistentDict({n: Counter() for n in range(4)}))

    def count(number: int) -> None:
        for _ in range(COMMITS):
            checkout(root[number])
            root[number].increment()
            transaction.commit()

    threads = [threading.Thread(target=count, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [root[n].count for n in range(4)] == [COMMITS] * 4
    twin = Database(db.path)
    assert [twin.root[n].count for n in range(4)] == [COMMITS] * 4
    twin.close()


@pytest.mark.parametrize("index", [True, False])
def test_an_unfinished_transaction_is_cut_off_and_not_appended_to(
    db: Database, open_database: Callable[..., Database], *, index: bool
) -> None:
    root = elect(db, Thing(name="whole"))
    whole = Path(db.path).stat().st_size
    db._p_store.log.save_index()
    index_file = Path(f"{db.path}.index")
    saved = index_file.read_bytes()
    change(root, name="x" * 100)
    db.close()
    content = Path(db.path).read_bytes()
    for cut in range(whole + 1, len(content), 37):
        Path(db.path).write_bytes(content[:cut])
        if index:
            index_file.write_bytes(saved)
        else:
            index_file.unlink(missing_ok=True)
        again = open_database()
        assert again.root.name == "whole"
        assert Path(db.path).stat().st_size == whole
        change(again.root, name="after")
        again.close()
        last = open_database()
        assert last.root.name == "after"
        assert last.damaged == []
        last.close()


def test_a_clock_that_steps_back_changes_nothing(
    db: Database, open_database: Callable[..., Database]
) -> None:
    root = elect(db, Thing(n=0))
    for n, now in enumerate([2e9, 1e9, 0.0, -5.0, 1e9]):
        with mock.patch.object(time, "time", lambda now=now: now):
            change(root, n=n)
        assert root._p_serial == n + 2
    assert open_database().root.n == 4


def test_a_deleted_item_stays_deleted(
    db: Database, open_database: Callable[..., Database]
) -> None:
    root = elect(db, PersistentDict(dict.fromkeys(range(100), "x" * 50)))
    checkout(root)
    del root[5]
    root.name = "set"
    transaction.commit()
    checkout(root)
    del root.name
    transaction.commit()
    again = open_database().root
    assert again is not None
    assert sorted(again) == [n for n in range(100) if n != 5]
    assert not hasattr(again, "name")


def test_streams_need_no_name(db: Database, open_database: Callable[..., Database]) -> None:
    class Source:
        def __init__(self) -> None:
            self._blocks = [b"one ", b"two"]

        def read(self, _size: int) -> bytes:
            return self._blocks.pop(0) if self._blocks else b""

    root: Any = elect(
        db, Thing(a=PersistentFile(io.BytesIO(b"bytes")), b=PersistentFile(Source()))
    )
    change(root, c=PersistentFile(io.StringIO("t\xe9xt")))
    again: Any = open_database().root
    for found in root, again:
        streams = [b"".join(stream) for stream in (found.a, found.b, found.c)]
        assert streams == [b"bytes", b"one two", "t\xe9xt".encode()]


def test_a_memory_limit_unloads_objects(open_database: Callable[..., Database]) -> None:
    db = open_database(memory_limit=20_000)
    root = elect(db, PersistentDict({n: Thing(text="x" * 1000) for n in range(100)}))
    in_memory = [thing for thing in root.values() if thing._p_serial is not None]
    assert len(in_memory) == 100
    transaction.begin()
    in_memory = [thing for thing in root.values() if thing._p_serial is not None]
    assert 0 < len(in_memory) <= 20
    assert all(len(thing.text) == 1000 for thing in root.values())


def test_opening_reads_no_objects(db: Database, open_database: Callable[..., Database]) -> None:
    elect(db, PersistentDict({n: Thing(n=n) for n in range(100)}))
    db.close()
    again = open_database()
    assert len(again) == 100 + 1
    assert len(again._p_store._objects) == 0
    assert again.root is not None
    assert again.root[7].n == 7
    loaded = [
        thing for thing in again._p_store._objects.values() if thing._p_serial is not None
    ]
    assert len(loaded) == 2


def test_a_flipped_byte_is_found_by_its_checksum(
    db: Database, open_database: Callable[..., Database]
) -> None:
    elect(db, Thing(name="needle", other=Thing(name="other")))
    db.close()
    content = Path(db.path).read_bytes()
    at = content.index(b"needle")
    Path(db.path).write_bytes(content[:at] + b"N" + content[at + 1 :])
    again = open_database()
    with pytest.raises(
        IntegrityError, match=r"objects: at offset \d+, transaction 1: .*payload"
    ):
        again.root  # noqa: B018
    assert again.get(2).name == "other"


def test_files_that_are_not_databases_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, and to be left as it is")
    with pytest.raises(IntegrityError, match="not a dobbin database"):
        Database(path)
    assert path.read_text() == "not a database, and to be left as it is"


def test_commits_are_synced(open_database: Callable[..., Database], tmp_path: Path) -> None:
    """Checks the system calls of commits, if strace is installed."""
    db = open_database("synced", sync="commit")
    elect(db, Persistent())
    calls = tmp_path / "calls"
    program = [sys.executable, str(PROGRAM), str(db.path), str(COMMITS), "new"]
    trace = ["strace", "-f", "-e", "trace=fdatasync,fsync", "-o", str(calls), *program]
    try:
        subprocess.run(trace, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("strace, which shows the syncs, is not installed")
    assert calls.read_text().count("fdatasync(") >= COMMITS


def test_a_compaction_frees_space(db: Database, open_database: Callable[..., Database]) -> None:
    root = elect(db, Thing(text=""))
    other = open_database()
    for n in range(50):
        change(root, text=str(n) * 1000)
    before = Path(db.path).stat().st_size
    db.compact()
    after = Path(db.path).stat().st_size
    assert after < before / 10
    transaction.begin()
    assert other.root.text == root.text == "49" * 1000
    change(other.root, text="on")
    transaction.begin()
    assert root.text == "on"
