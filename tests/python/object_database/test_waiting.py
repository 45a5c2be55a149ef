"""`Database.wait`: commits that the current transaction has not seen."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import transaction

from dobbin.persistent import checkout
from object_database.things import Thing, change, elect, in_thread
from object_database.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from dobbin.database import Database

LONG = 30


def test_commits_of_the_same_instance_end_a_wait(db: Database) -> None:
    elect(db, Thing(n=0))
    transaction.begin()
    begun = threading.Event()
    results: list[Any] = []

    def wait() -> None:
        transaction.begin()
        begun.set()
        results.append(db.wait(LONG))
        transaction.begin()
        results.append(db.root.n)

    thread = threading.Thread(target=wait)
    thread.start()
    begun.wait()
    change(db.root, n=1)
    thread.join()
    assert results == [True, 1]
    # A thread's own commits do not count.
    assert not db.wait(0)


def test_commits_that_another_thread_has_read_end_a_wait(
    db: Database, open_database: Callable[..., Database]
) -> None:
    """The instance reads it between the beginning of this thread's transaction and its wait."""
    elect(db, Thing(n=0))
    other = open_database()
    transaction.begin()
    assert db.root.n == 0
    in_thread(lambda: change(other.root, n=1))
    in_thread(lambda: (db.root, transaction.begin()))
    assert db.wait(0)
    transaction.begin()
    assert not db.wait(0)


def test_commits_read_by_an_own_commit_end_a_wait(
    db: Database, open_database: Callable[..., Database]
) -> None:
    elect(db, Thing(n=0, child=Thing(n=0)))
    other = open_database()
    assert other.root.child.n == 0
    transaction.begin()
    assert db.root.n == 0
    in_thread(lambda: change(other.root, n=1))
    change(db.root.child, n=1)
    assert db.wait(0)
    transaction.begin()
    assert not db.wait(0)


def test_failed_transactions_do_not_end_a_wait(db: Database) -> None:
    root = elect(db, Thing(n=0))
    working = Worker()
    working.do(transaction.begin)
    checkout(root)
    root.bad = threading.Lock()
    before = db.tx_count
    with pytest.raises(TypeError):
        transaction.commit()
    transaction.abort()
    assert db.tx_count == before + 1
    assert not working.do(lambda: db.wait(0))
    assert not db.wait(0, since=before)
    working.end()


def test_a_wait_since_a_transaction(
    db: Database, open_database: Callable[..., Database]
) -> None:
    elect(db, Thing(n=0))
    other = open_database()
    seen = db.tx_count
    assert not db.wait(0, since=seen)
    assert db.wait(0, since=seen - 1)
    change(db.root, n=1)
    assert db.wait(0, since=seen)
    assert not db.wait(0, since=db.tx_count)
    transaction.begin()
    in_thread(lambda: change(other.root, n=2))
    assert db.wait(0, since=db.tx_count)
    with pytest.raises(ValueError, match="since=99 is more than tx_count, 2"):
        db.wait(0, since=99)
