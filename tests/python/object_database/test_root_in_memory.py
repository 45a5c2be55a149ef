"""The root, and objects that only it refers to, stay in memory during other commits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import transaction

from dobbin._classes import is_ghost
from dobbin.persistent import PersistentDict, checkout
from object_database.things import Counter, Tree, change, elect, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from dobbin.database import Database


def filled(open_database: Callable[..., Database]) -> Database:
    """Return a loaded database of which only the root is referred to."""
    with open_database() as db:
        elect(db, Tree({number: Counter(number) for number in range(10)}))
    db = open_database()
    assert sum(counter.count for counter in db.root.values()) == 45
    return db


def in_memory(db: Database) -> int:
    return sum(not is_ghost(obj) for obj in list(db._p_store._objects.values()))


def test_a_commit_keeps_objects_in_memory_that_only_the_root_refers_to(
    open_database: Callable[..., Database],
) -> None:
    db = filled(open_database)
    assert in_memory(db) == 11
    change(db.root[3], count=30)
    assert in_memory(db) == 11
    checkout(db.root)
    db.root["more"] = Counter(5)
    transaction.commit()
    assert in_memory(db) == 12
    in_thread(lambda: change(db.root[4], count=40))
    assert in_memory(db) == 12
    assert db.root[3].count + db.root[4].count == 70


def test_a_change_by_others_keeps_referred_objects_in_memory(
    open_database: Callable[..., Database],
) -> None:
    db, other = filled(open_database), open_database()
    checkout(other.root)
    other.root["more"] = Counter(5)
    del other.root[9]
    transaction.commit()
    transaction.begin()
    assert is_ghost(db.root)
    assert db.root[3].count == 3
    # All except the removed object, and the new one, which was not loaded.
    assert in_memory(db) == 10
    limited = open_database(memory_limit=1_000_000)
    assert sum(counter.count for counter in limited.root.values()) == 41
    change(other.root[1], count=10)
    transaction.begin()
    assert limited._p_store._replaced == {}


def test_an_elected_root_is_the_root_in_all_threads_and_instances(
    open_database: Callable[..., Database],
) -> None:
    db, other = filled(open_database), open_database()
    assert other.root[1].count == 1
    second = PersistentDict(name="second")
    db.elect(second, replace=True)
    transaction.commit()
    assert db.root is second
    assert in_thread(lambda: db.root) is second
    transaction.begin()
    assert other.root["name"] == "second"
    other.elect(PersistentDict(name="third"), replace=True)
    transaction.commit()
    transaction.begin()
    assert db.root["name"] == "third"
    assert in_thread(lambda: db.root["name"]) == "third"


def test_an_aborted_election_changes_nothing(
    open_database: Callable[..., Database],
) -> None:
    db = filled(open_database)
    root = db.root
    db.elect(PersistentDict(name="second"), replace=True)
    assert db.root["name"] == "second"
    transaction.abort()
    assert db.root is root
    assert in_memory(db) == 11
