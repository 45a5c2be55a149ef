"""A pack keeps all reachable objects, whatever is committed before, during and after it.

Commits take place during a pack, in its own thread: when it extracts references and does not
hold the commit lock. ZRS_PACK_SEEDS sets the number of random histories.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from typing import TYPE_CHECKING, Any

import pytest
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.POSException import POSError
from ZODB.serialize import referencesf

from replicas.changes import (
    CREATION,
    MOMENT,
    Committer,
    UndoInPack,
    missing,
    undo,
    undone,
    unlinked_child,
)
from replicas.waiting import wait_caught_up
from zc.zrs.filestorage import FileStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from replicas.opening import Opener

SEEDS = int(os.environ.get("ZRS_PACK_SEEDS", "20"))
STEPS = 14


def pack_beside(
    db: Any, seconds: float, beside: Callable[[], None], rng: random.Random
) -> set[bytes]:
    """Pack, with commits when it extracts references; return the objects missing before.

    A pack fails, and changes nothing, if a reachable object is missing.
    """
    before = [missing(db.storage)]

    def references(data: bytes, oids: Any = None) -> Any:
        if rng.random() < 0.3 and not db.storage._commit_lock.locked():
            beside()
            before.append(missing(db.storage))
        return referencesf(data, oids)

    with contextlib.suppress(KeyError):
        db.storage.pack(seconds, references)
    return before[-1]


def undo_all(db: Any, gone: set[bytes]) -> None:
    """Undo all transactions that can be undone, one by one, and check after each.

    `gone` are the objects whose creation had been undone before a pack.
    """
    before = missing(db.storage) | gone
    for found in db.undoLog(0, 20):
        if found["description"] == CREATION:
            continue
        manager = transaction.TransactionManager()
        try:
            db.undo(found["id"], manager.get())
            manager.commit()
        except POSError:
            manager.abort()
        assert missing(db.storage) <= before | undone(db)


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("keep_old", [True, False])
def test_packs_during_commits(tmp_path: Path, seed: int, keep_old: bool) -> None:
    rng = random.Random(seed)  # noqa: S311 -- to be repeated
    storage = FileStorage(
        str(tmp_path / "Data.fs"), blob_dir=str(tmp_path / "blobs"), pack_keep_old=keep_old
    )
    db = ZODB.DB(storage)
    committer = Committer(db, rng)
    moments = []
    gone: set[bytes] = set()
    for _ in range(3):
        for _ in range(STEPS):
            committer.step()
            time.sleep(MOMENT)
            moments.append(time.time())
        gone |= undone(db)
        before = pack_beside(db, rng.choice(moments[-STEPS:]), committer.step, rng)
        assert missing(db.storage) == before
    undo_all(db, gone)
    db.close()


@pytest.mark.parametrize("role", ["alone", "primary", "secondary"])
def test_an_undo_during_a_pack_brings_back_dropped_objects(
    opener: Opener, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The object that the undo brought back was lost forever, on a secondary silently."""
    storage = FileStorage(str(opener.path))
    primary = opener.primary(storage)
    db = ZODB.DB(primary)
    removal = unlinked_child(db)
    packed = storage
    where: Any = primary
    if role == "secondary":
        packed = FileStorage(str(opener.copy))
        where = opener.secondary(primary, packed)
        wait_caught_up(primary, where)
    beside = UndoInPack(db, removal, lambda: wait_caught_up(primary, where))
    with caplog.at_level("INFO", "ZODB.FileStorage"):
        packed.pack(time.time() + 1, beside)
    assert beside.done
    assert any("copying again" in record.getMessage() for record in caplog.records)
    assert ZODB.DB(where).open().root()["a"]["child"]["precious"] == 1
    assert missing(where) == set()
    packed.pack(time.time() + 1, referencesf)


@pytest.mark.parametrize("keep_old", [True, False])
def test_a_blob_stored_again_after_the_pack_time_keeps_its_file(
    tmp_path: Path, keep_old: bool
) -> None:
    db = ZODB.DB(
        FileStorage(
            str(tmp_path / "Data.fs"), blob_dir=str(tmp_path / "b"), pack_keep_old=keep_old
        )
    )
    manager = transaction.TransactionManager()
    root = db.open(manager).root()
    blob = root["b"] = Blob(b"one")
    manager.commit()
    with blob.open("w") as file:
        file.write(b"another")
    manager.commit()
    del root["b"]
    manager.commit()
    time.sleep(0.05)
    moment = time.time()
    time.sleep(0.05)
    with blob.open("w") as file:
        file.write(b"two")
    root["b"] = blob
    manager.commit()
    db.storage.pack(moment, referencesf)
    with db.open(transaction.TransactionManager()).root()["b"].open("r") as file:
        assert file.read() == b"two"
    db.close()


def test_undoing_changes_of_an_object_out_of_reach_keeps_its_child(tmp_path: Path) -> None:
    """If only an undo brought an object back, its own record was kept, but not its children."""
    db = ZODB.DB(FileStorage(str(tmp_path / "Data.fs")))
    with db.transaction() as connection:
        connection.root()["a"] = PersistentMapping(b=PersistentMapping(deep=1))
    with db.transaction() as connection:
        connection.root()["a"]["n"] = 1
    with db.transaction() as connection:
        del connection.root()["a"]
    time.sleep(0.05)
    moment = time.time()
    time.sleep(0.05)
    for _ in range(2):
        undo(db, db.undoLog(1, 2)[0]["id"])
    db.storage.pack(moment, referencesf)
    # Not through the database, which has the objects in its cache.
    assert missing(db.storage) == set()
    db.close()


def test_an_undo_after_a_pack_restores_the_right_revision(tmp_path: Path) -> None:
    """The pack kept a revision that an undo had restored, and a later undo restored it too."""
    db = ZODB.DB(FileStorage(str(tmp_path / "Data.fs")))
    with db.transaction() as connection:
        mapping = connection.root()["a"] = PersistentMapping(n=1)
    with db.transaction() as connection:
        connection.root()["a"]["n"] = 2
    oid = mapping._p_oid
    second = db.storage.load(oid)[0]
    with db.transaction() as connection:
        del connection.root()["a"]
    time.sleep(0.05)
    moment = time.time()
    time.sleep(0.05)
    undo(db, db.undoLog(1, 2)[0]["id"])
    db.storage.pack(moment, referencesf)
    assert db.storage.load(oid)[0] != second
    undo(db, db.undoLog(0, 1)[0]["id"])
    assert db.storage.load(oid)[0] == second
    db.close()


def restore(storage: Any, record: Any) -> None:
    """Copy a transaction of another storage."""
    storage.tpc_begin(record, record.tid, record.status)
    for found in record:
        storage.restore(found.oid, found.tid, found.data, "", found.data_txn, record)
    storage.tpc_vote(record)
    storage.tpc_finish(record)


def test_a_pack_while_a_packed_file_is_fetched_drops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The record that referred to the object was not in the file yet; it lost the object.

    A secondary is in that state while it fetches transactions that its primary committed and
    packed in its absence.
    """
    db = ZODB.DB(FileStorage(str(tmp_path / "Data.fs")))
    copy = FileStorage(str(tmp_path / "copy.fs"))
    for record in db.storage.iterator():
        restore(copy, record)
    with db.transaction() as connection:
        connection.root()["a"] = PersistentMapping(precious=1)
    oid = db.open().root()["a"]._p_oid
    for number in range(2):
        with db.transaction() as connection:
            connection.root()["n"] = number
    db.storage.pack(time.time() + 1, referencesf)
    records = db.storage.iterator(copy.lastTransaction())
    restore(copy, next(records))
    with caplog.at_level("INFO"):
        copy.pack(time.time() + 1, referencesf)
    assert any("keeps all objects" in record.getMessage() for record in caplog.records)
    for record in records:
        restore(copy, record)
    assert copy.load(oid) == db.storage.load(oid)
    copy.close()
    db.close()
