"""A pack leaves all that can be reached, whatever is committed before, beside and after it.

Commits come in the middle of a pack, from its own thread: when it asks for references and
does not hold the commit lock. ZRS_PACK_SEEDS sets how many random histories are packed.
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
from ZODB.utils import z64

from replicas.waiting import wait_caught_up
from zc.zrs.filestorage import FileStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from replicas.opening import Opener

SEEDS = int(os.environ.get("ZRS_PACK_SEEDS", "40"))
STEPS = 14
CREATION = b"initial database creation"
# A transaction has the time at which it began, and a pack's time is not that of one.
MOMENT = 0.002


def missing(db: Any) -> set[bytes]:
    """Return the objects that can be reached from the root, and do not load or have no file.

    Undoing the transaction that made an object, and not those that refer to it, does that.
    """
    storage, todo = db.storage, [z64]
    seen: set[bytes] = set()
    lost = set()
    while todo:
        oid = todo.pop()
        if oid in seen:
            continue
        seen.add(oid)
        try:
            data, tid = storage.load(oid)
            if storage.is_blob_record(data):
                storage.loadBlob(oid, tid)
        except KeyError:
            lost.add(oid)
        else:
            todo += referencesf(data)
    return lost


def undone(db: Any) -> set[bytes]:
    """Return the objects whose creation a transaction has undone."""
    records = (record for found in db.storage.iterator() for record in found)
    return {record.oid for record in records if record.data is None}


class Committer:
    """Makes random changes of a database: links and unlinks objects, writes blobs, undoes."""

    def __init__(self, db: Any, rng: random.Random) -> None:
        self.db, self.rng = db, rng
        self.manager = transaction.TransactionManager()
        self.connection = db.open(self.manager)
        self.held: list[Any] = []  # also when nothing leads to them any more

    def step(self) -> None:
        """Commit one change; an undo that conflicts changes nothing."""
        time.sleep(MOMENT)
        act = self.rng.choice([self.link, self.link, self.unlink, self.relink, self.change])
        if self.rng.random() < 0.4:
            act = self.undo
        try:
            act()
            self.manager.commit()
        except (POSError, KeyError):
            self.manager.abort()

    def place(self) -> Any:
        """Return one of the mappings that can be reached."""
        place = self.connection.root()
        while True:
            below = [v for v in place.values() if isinstance(v, PersistentMapping)]
            if not below or self.rng.random() < 0.4:
                return place
            place = self.rng.choice(below)

    def link(self) -> None:
        new: Any = Blob(b"0") if self.rng.random() < 0.3 else PersistentMapping()
        if isinstance(new, PersistentMapping):
            new["child"] = PersistentMapping()
        self.place()[f"k{self.rng.randrange(4)}"] = new
        self.held.append(new)

    def unlink(self) -> None:
        place = self.place()
        if place:
            del place[self.rng.choice(sorted(place))]

    def relink(self) -> None:
        if self.held:
            self.place()[f"k{self.rng.randrange(4)}"] = self.change()

    def change(self) -> Any:
        if not self.held:
            return PersistentMapping()
        found = self.rng.choice(self.held)
        if isinstance(found, Blob):
            with found.open("w") as file:
                file.write(b"1")
        else:
            found["n"] = self.rng.random()
        return found

    def undo(self) -> None:
        log = [found for found in self.db.undoLog(0, 4) if found["description"] != CREATION]
        if log:
            self.db.undo(self.rng.choice(log)["id"], self.manager.get())


def pack_beside(
    db: Any, seconds: float, beside: Callable[[], None], rng: random.Random
) -> set[bytes]:
    """Pack, with commits when it asks for references; return what was missing before.

    A pack fails, and changes nothing, where what can be reached was not there.
    """
    before = [missing(db)]

    def references(data: bytes, oids: Any = None) -> Any:
        if rng.random() < 0.3 and not db.storage._commit_lock.locked():
            beside()
            before.append(missing(db))
        return referencesf(data, oids)

    with contextlib.suppress(KeyError):
        db.storage.pack(seconds, references)
    return before[-1]


def undo_all(db: Any) -> None:
    """Undo what can be undone, one transaction after the other, and check each time."""
    before = missing(db)
    for found in db.undoLog(0, 20):
        if found["description"] == CREATION:
            continue
        manager = transaction.TransactionManager()
        try:
            db.undo(found["id"], manager.get())
            manager.commit()
        except POSError:
            manager.abort()
        assert missing(db) <= before | undone(db)


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("keep_old", [True, False])
def test_packs_beside_commits(tmp_path: Path, seed: int, keep_old: bool) -> None:
    rng = random.Random(seed)  # noqa: S311 -- to be repeated
    storage = FileStorage(
        str(tmp_path / "Data.fs"), blob_dir=str(tmp_path / "blobs"), pack_keep_old=keep_old
    )
    db = ZODB.DB(storage)
    committer = Committer(db, rng)
    moments = []
    for _ in range(3):
        for _ in range(STEPS):
            committer.step()
            time.sleep(MOMENT)
            moments.append(time.time())
        before = pack_beside(db, rng.choice(moments[-STEPS:]), committer.step, rng)
        assert missing(db) == before
    undo_all(db)
    db.close()


def unlinked_child(db: Any) -> bytes:
    """Commit a child and its removal; return the id of the removal."""
    with db.transaction() as connection:
        connection.root()["a"] = PersistentMapping()
    with db.transaction() as connection:
        connection.root()["a"]["child"] = PersistentMapping({"precious": 1})
    with db.transaction() as connection:
        del connection.root()["a"]["child"]
    removal: bytes = db.undoInfo(0, 1)[0]["id"]
    with db.transaction() as connection:
        connection.root()["b"] = 1
    return removal


def undo(db: Any, transaction_id: bytes) -> None:
    """Undo one transaction."""
    manager = transaction.TransactionManager()
    db.undo(transaction_id, manager.get())
    manager.commit()


@pytest.mark.parametrize("role", ["alone", "primary", "secondary"])
def test_undo_beside_a_pack_brings_back_what_was_dropped(opener: Opener, role: str) -> None:
    """The object that the undo brought back was lost for ever, on a secondary silently."""
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
    done: list[bytes] = []

    def references(data: bytes, oids: Any = None) -> Any:
        if not done:
            done.append(removal)
            undo(db, removal)
            if role == "secondary":
                wait_caught_up(primary, where)
        return referencesf(data, oids)

    packed.pack(time.time() + 1, references)
    assert done
    assert ZODB.DB(where).open().root()["a"]["child"]["precious"] == 1
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
    """Of an object that only an undo brought back its own record was kept, and no child."""
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
    assert db.open().root()["a"]["b"]["deep"] == 1
    db.close()
