"""Snapshots and compaction: the current state without the history."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Any

import pytest
import transaction

from dobbin.command import main
from dobbin.database import Database
from dobbin.exc import IntegrityError
from dobbin.persistent import PersistentDict, PersistentFile, checkout
from object_database.things import Counter, Thing, Tree, change, elect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHANGES = 12


def with_chains(db: Database) -> Any:
    """Commit objects that are stored as changes, with all kinds of values."""
    root = elect(db, Tree({str(number): f"{number:50}" for number in range(20)}))
    root_of = {"cycle": root, "child": Thing(name="child"), "plain": {"nested": [1, 2]}}
    for number in range(CHANGES):
        checkout(root)
        root["changing"] = number
        root.count = number
        root.gone = number
        for name, value in root_of.items():
            root[name] = value
        if number == CHANGES - 1:
            del root["7"]
            del root.gone
            root["file"] = PersistentFile(io.BytesIO(b"bytes"))
        transaction.commit()
    return root


def state_of(root: Any) -> Any:
    """Return the state of an object with chains."""
    assert root["cycle"] is root
    items = {name: value for name, value in root.items() if name not in ("cycle", "file")}
    items["child"] = items["child"].name
    return items, vars(root) | {}, b"".join(root["file"])


def records(db: Database) -> int:
    """Return the number of records that make up the root."""
    return len(db._p_store.log.load(db.root._p_oid)[1])


def test_a_snapshot_folds_changes(db: Database, open_database: Callable[..., Database]) -> None:
    expected = state_of(with_chains(db))
    assert records(db) == CHANGES + 1
    db.snapshot(target := open_database("target"))
    assert records(target) == 1
    assert state_of(target.root) == expected
    assert (len(target), len(db)) == (2, 2)


@pytest.mark.parametrize("unreachable", [True, False])
def test_a_compaction_folds_changes(
    db: Database, open_database: Callable[..., Database], *, unreachable: bool
) -> None:
    """Other instances notice nothing: objects keep the number of their last transaction."""
    root = with_chains(db)
    other = open_database()
    expected, serial, count = state_of(root), root._p_serial, db.tx_count
    checkout(other.root)
    other.root["changing"] = "by the other"
    db.compact(unreachable=unreachable)
    assert records(db) == 1
    assert (state_of(root), root._p_serial, db.tx_count) == (expected, serial, count)
    transaction.commit()
    assert open_database().root["changing"] == "by the other"
    # References are found in folded records.
    db.compact(unreachable=False)
    again = open_database()
    assert again.root["child"].name == "child"
    assert b"".join(again.root["file"]) == b"bytes"
    again.close()
    assert main(["check", db.path]) == 0


def test_a_chain_that_cannot_be_folded_is_copied(
    db: Database, open_database: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class of a value is missing, so it cannot be pickled again."""
    root = with_chains(db)
    checkout(root)
    root["value"] = Value()
    transaction.commit()
    expected = state_of(root)
    monkeypatch.delattr("object_database.test_copies.Value")
    other = open_database()
    other.compact()
    monkeypatch.undo()
    again = open_database()
    assert records(again) == CHANGES + 2
    assert state_of(again.root)[0].keys() == expected[0].keys()
    assert isinstance(again.root["value"], Value)


class Value:
    """A value that can be pickled."""


def test_an_interrupted_compaction_leaves_the_database_usable(db: Database) -> None:
    class Interrupting(Database):
        interrupted = False

        def find_class(self, module: str, name: str) -> Any:
            if self.interrupted:
                raise KeyboardInterrupt
            return super().find_class(module, name)

    root = with_chains(db)
    expected = state_of(root)
    with Interrupting(db.path) as other:
        other.interrupted = True
        with pytest.raises(KeyboardInterrupt):
            other.compact()
        other.interrupted = False
        transaction.begin()
        assert state_of(other.root) == expected
        change(other.root, count="after")
    transaction.begin()
    assert root.count == "after"


def test_damage_of_a_current_object_prevents_a_compaction(
    db: Database, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The object would be lost; damage in old states is dropped."""
    root = elect(db, PersistentDict(thing=Thing(name="past"), other=Counter(7)))
    change(root["thing"], name="present")
    db.close()
    path = tmp_path / "objects"
    sound = path.read_bytes()
    for name, refused in (b"present", True), (b"past", False):
        at = sound.index(name)
        path.write_bytes(sound[:at] + b"X" + sound[at + 1 :])
        damaged = path.read_bytes()
        assert main(["check", str(path)]) == 1
        capsys.readouterr()
        assert main(["compact", str(path)]) == (2 if refused else 0)
        if refused:
            assert "transaction 2: a record's payload does not match" in capsys.readouterr().err
            assert path.read_bytes() == damaged
        assert main(["check", str(path)]) == (1 if refused else 0)
        assert {found.name for found in tmp_path.iterdir()} == {"objects", "objects.index"}
    with Database(path) as again:
        assert (again.root["thing"].name, again.root["other"].count) == ("present", 7)


def test_a_database_can_be_compacted_without_a_damaged_object(
    db: Database, tmp_path: Path
) -> None:
    elect(db, PersistentDict(thing=Thing(name="damaged"), other=Counter(7)))
    db.close()
    path = tmp_path / "objects"
    sound = path.read_bytes()
    at = sound.index(b"damaged")
    path.write_bytes(sound[:at] + b"X" + sound[at + 1 :])
    with Database(path) as damaged:
        with pytest.raises(IntegrityError, match="transaction 1"):
            _ = damaged.root["thing"].name
        with pytest.raises(IntegrityError, match="transaction 1"):
            damaged.compact()
        checkout(damaged.root)
        del damaged.root["thing"]
        transaction.commit()
        damaged.compact(unreachable=False)
        assert damaged.root["other"].count == 7
    assert main(["check", str(path)]) == 0


def test_the_time_of_an_old_snapshot_does_not_depend_on_later_objects(
    db: Database, open_database: Callable[..., Database]
) -> None:
    """A snapshot of a time among many transactions of many objects ends."""
    root = elect(db, PersistentDict({number: Counter() for number in range(3000)}))
    for number in range(3000):
        checkout(root[number])
        root[number].increment()
        transaction.commit()
    db.snapshot(target := open_database("target"), time.time())
    assert sum(counter.count for counter in target.root.values()) == 3000
