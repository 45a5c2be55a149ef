"""Packs of either side during replication keep all reachable objects.

Commits take place during a pack, as in test_packs_during_commits.py, and reach the secondary
before the pack continues. ZRS_PACK_SEEDS sets the number of random histories.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.POSException import POSError, POSKeyError, UndoError
from ZODB.serialize import referencesf
from ZODB.utils import z64

from replicas.changes import CREATION, MOMENT, Committer, missing, undo
from replicas.waiting import wait_caught_up
from zc.zrs.filestorage import FileStorage

if TYPE_CHECKING:
    from replicas.opening import Opener

SEEDS = int(os.environ.get("ZRS_PACK_SEEDS", "20"))
STEPS = 12


class Sides:
    """A database on a primary, and its secondary."""

    def __init__(self, opener: Opener, *, keep_old: bool) -> None:
        self.files = [
            FileStorage(
                str(path), blob_dir=str(path.with_suffix(".blobs")), pack_keep_old=keep_old
            )
            for path in (opener.path, opener.copy)
        ]
        self.primary: Any = opener.primary(self.files[0])
        self.secondary: Any = opener.secondary(self.primary, self.files[1])
        self.db: Any = ZODB.DB(self.primary)

    def wait(self) -> None:
        """Wait until the secondary has everything."""
        wait_caught_up(self.primary, self.secondary)

    def check(self) -> set[bytes]:
        """Fail unless the secondary has all objects that are reachable on the primary.

        Returns the reachable objects that are missing.
        """
        self.wait()
        todo, seen, lost = [z64], set[bytes](), missing(self.primary)
        while todo:
            oid = todo.pop()
            if oid in seen or oid in lost:
                continue
            seen.add(oid)
            data, tid = self.primary.load(oid)
            assert self.secondary.load(oid) == (data, tid)
            if self.primary.is_blob_record(data):
                ours, theirs = (
                    Path(side.loadBlob(oid, tid)).read_bytes()
                    for side in (self.primary, self.secondary)
                )
                assert ours == theirs
            todo += referencesf(data)
        return lost

    def pack(self, number: int, seconds: float, beside: Any, rng: random.Random) -> None:
        """Pack a side, with commits when it extracts references; nothing may be lost.

        A pack fails, and changes nothing, if a reachable object is missing.
        """
        storage = self.files[number]
        before = [self.check()]

        def references(data: bytes, oids: Any = None) -> Any:
            if beside and rng.random() < 0.2 and not storage._commit_lock.locked():
                beside()
                before.append(self.check())
            return referencesf(data, oids)

        with contextlib.suppress(KeyError):
            storage.pack(seconds, references)
        assert self.check() == before[-1]

    def undo_all(self) -> None:
        """Undo all transactions that can be undone, one by one, and check after each."""
        for found in self.db.undoLog(0, 12):
            if found["description"] == CREATION:
                continue
            manager = transaction.TransactionManager()
            try:
                self.db.undo(found["id"], manager.get())
                manager.commit()
            except POSError:
                manager.abort()
            self.check()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_packs_of_both_sides(opener: Opener, seed: int) -> None:
    """A primary must not bring back objects that its secondary dropped in a pack.

    So the primary is packed to the same time, before it or immediately afterwards.
    """
    rng = random.Random(seed)  # noqa: S311 -- to be repeated
    sides = Sides(opener, keep_old=rng.random() < 0.5)
    committer = Committer(sides.db, rng)
    for _ in range(3):
        moments = []
        for _ in range(STEPS):
            committer.step()
            time.sleep(MOMENT)
            moments.append(time.time())
        seconds = rng.choice(moments)
        if rng.random() < 0.5:
            sides.pack(0, seconds, committer.step, rng)
            sides.pack(1, seconds, committer.step, rng)
        else:
            sides.pack(1, seconds, committer.step, rng)
            sides.pack(0, seconds, None, rng)
    sides.undo_all()
    sides.db.close()


def test_a_secondary_packed_further_than_its_primary(opener: Opener) -> None:
    """If an undo brings back an object that the secondary has dropped, a check finds that.

    Packing the primary first to the same time prevents the undo.
    """
    storage = FileStorage(str(opener.copy))
    primary = opener.primary()
    secondary: Any = opener.secondary(primary, storage)
    db = ZODB.DB(primary)
    with db.transaction() as connection:
        child = connection.root()["a"] = PersistentMapping(n=1)
    with db.transaction() as connection:
        del connection.root()["a"]
    removal = db.undoLog(0, 1)[0]["id"]
    wait_caught_up(primary, secondary)
    secondary.pack(time.time() + 1, referencesf)
    undo(db, removal)
    wait_caught_up(primary, secondary)
    assert primary.load(child._p_oid)
    with pytest.raises(POSKeyError):
        secondary.load(child._p_oid)
    assert missing(secondary) == {child._p_oid}
    secondary.close()
    found = subprocess.run(
        [sys.executable, "-m", "zc.zrs.command", "check", str(opener.copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert "refers to invalid object 0x01 missing" in found.stdout


def test_a_primary_packed_first_cannot_bring_back_what_its_secondary_drops(
    opener: Opener,
) -> None:
    primary = opener.primary()
    secondary: Any = opener.secondary(primary)
    db = ZODB.DB(primary)
    with db.transaction() as connection:
        connection.root()["a"] = PersistentMapping(n=1)
    with db.transaction() as connection:
        del connection.root()["a"]
    removal = db.undoLog(0, 1)[0]["id"]
    wait_caught_up(primary, secondary)
    for side in primary, secondary:
        side.pack(time.time() + 1, referencesf)
    with pytest.raises(UndoError):
        undo(db, removal)
