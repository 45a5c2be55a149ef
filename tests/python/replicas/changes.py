"""Random changes of a database of mappings and blobs, and its reachable objects."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import transaction
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.POSException import POSError
from ZODB.serialize import referencesf
from ZODB.utils import z64

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

CREATION = b"initial database creation"
# A transaction's time is that of its beginning; a pack time must differ from it.
MOMENT = 0.002


def missing(storage: Any) -> set[bytes]:
    """Return objects that are reachable from the root, but cannot be loaded or lack a file.

    They result from undoing only the transaction that created an object, not its references.
    """
    todo = [z64]
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


def undo(db: Any, transaction_id: bytes) -> None:
    """Undo one transaction."""
    manager = transaction.TransactionManager()
    db.undo(transaction_id, manager.get())
    manager.commit()


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


class UndoInPack:
    """A `referencesf` for packs that undoes a transaction on its first call, and then waits."""

    def __init__(self, db: Any, transaction_id: bytes, wait: Callable[[], object]) -> None:
        self._db, self._transaction_id, self._wait = db, transaction_id, wait
        self.done = False

    def __call__(self, data: bytes, oids: Any = None) -> Any:
        if not self.done:
            self.done = True
            undo(self._db, self._transaction_id)
            self._wait()
        return referencesf(data, oids)


class Committer:
    """Makes random changes of a database: links and unlinks objects, writes blobs, undoes."""

    def __init__(self, db: Any, rng: random.Random) -> None:
        self.db, self.rng = db, rng
        self.manager = transaction.TransactionManager()
        self.connection = db.open(self.manager)
        self.held: list[Any] = []  # also when they are no longer reachable

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
        """Return one of the reachable mappings."""
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
