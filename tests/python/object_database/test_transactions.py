"""The transactions of threads, tasks and an application's own transaction managers."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest
import transaction
from transaction.interfaces import NoTransaction

from dobbin.exc import (
    ObjectGraphError,
    ReadConflictError,
    RootExistsError,
    WriteConflictError,
)
from dobbin.persistent import PersistentDict, checkout, retract
from object_database.things import Counter, Thing, change, elect, in_thread
from object_database.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dobbin.database import Database


@pytest.fixture
def worker() -> Iterator[Worker]:
    working = Worker()
    yield working
    working.end()


@pytest.fixture
def manager() -> transaction.TransactionManager:
    return transaction.TransactionManager(explicit=True)


@pytest.fixture
def own(
    db: Database,
    open_database: Callable[..., Database],
    manager: transaction.TransactionManager,
) -> Database:
    """Another instance, which uses `manager`; the root is `Thing(n=0)`."""
    elect(db, Thing(n=0))
    return open_database(transaction_manager=manager)


def set_one(root: Any) -> None:
    checkout(root)
    root.n = 1


def replace_root(db: Database) -> None:
    db.elect(Thing(n=2), replace=True)
    transaction.commit()


# --- Transaction managers


def test_an_own_manager_commits_and_aborts(
    db: Database, own: Database, manager: transaction.TransactionManager
) -> None:
    root = own.root
    with manager:
        checkout(root)
        root.n = 1
        root.new = new = Thing()
        checkout(new)
        new.n = 2
    assert (root.n, root.new.n, type(root)) == (1, 2, Thing)
    transaction.begin()
    assert (db.root.n, db.root.new.n) == (1, 2)

    def fail() -> None:
        checkout(root)
        root.n = 2
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        manager.run(fail)
    assert root.n == 1
    # The transactions of the thread are independent of the manager's.
    manager.begin()
    checkout(root)
    root.n = 3
    transaction.abort()
    assert root.n == 3
    retract(root)
    assert root.n == 1
    manager.abort()


def test_an_explicit_manager_raises_outside_a_transaction(
    own: Database, manager: transaction.TransactionManager
) -> None:
    assert own.root.n == 0
    with pytest.raises(NoTransaction):
        checkout(own.root)
    assert own.root.n == 0
    with manager:
        checkout(own.root)
        own.root.n = 1
    assert own.root.n == 1


def test_a_manager_catches_up_when_it_begins(
    db: Database, own: Database, manager: transaction.TransactionManager
) -> None:
    with manager:
        assert own.root.n == 0
        change(db.root, n=1)
        transaction.begin()
        assert own.root.n == 0
    with manager:
        assert own.root.n == 1


def test_an_unconnected_object_prevents_the_commit_of_its_manager(
    own: Database, manager: transaction.TransactionManager
) -> None:
    manager.begin()
    checkout(own.root)
    own.root.n = 1
    checkout(Thing())
    with pytest.raises(ObjectGraphError):
        manager.commit()
    manager.abort()
    assert own.root.n == 0
    transaction.commit()


def test_a_function_returns_the_manager_of_a_request(
    db: Database, open_database: Callable[..., Database]
) -> None:
    """Like pyramid_tm: an explicit manager for each request, and one database."""
    elect(db, Thing(first=0, second=0))
    present: contextvars.ContextVar[Any] = contextvars.ContextVar("present", default=None)
    shared = open_database(transaction_manager=present.get)
    first, second = (transaction.TransactionManager(explicit=True) for _ in range(2))

    def in_request(manager: Any, work: Callable[[], Any]) -> Any:
        present.set(manager)
        return work()

    def set_both() -> None:
        checkout(shared.root)
        shared.root.first = shared.root.second = 9

    in_request(first, first.begin)
    in_request(first, set_both)
    in_request(second, second.begin)
    assert in_request(second, lambda: shared.root.first) == 0
    assert in_request(first, lambda: shared.root.first) == 9
    in_request(second, second.commit)
    assert in_request(first, lambda: shared.root.first) == 9
    in_request(first, first.commit)
    transaction.begin()
    assert (db.root.first, db.root.second) == (9, 9)


def test_tasks_of_one_thread_have_their_own_transactions(db: Database) -> None:
    elect(db, PersistentDict({n: Counter() for n in range(8)}, total=Counter()))
    views = [
        db.isolated_view(transaction_manager=transaction.TransactionManager(explicit=True))
        for _ in range(8)
    ]

    async def count(number: int, view: Database) -> None:
        manager = view._p_store.manager
        for turn in range(5):
            manager.begin()
            for name in number, "total":
                checkout(view.root[name])
                await asyncio.sleep(0)
                view.root[name].increment()
            await asyncio.sleep(0)
            if turn % 2:
                manager.abort()
            else:
                manager.commit()

    async def count_all() -> None:
        await asyncio.gather(*(count(number, view) for number, view in enumerate(views)))

    asyncio.run(count_all())
    transaction.begin()
    assert [db.root[n].count for n in range(8)] == [3] * 8
    assert db.root["total"].count == 24
    for view in views:
        view.close()


def test_a_manager_may_be_used_by_one_thread_after_another(
    own: Database, manager: transaction.TransactionManager
) -> None:
    root = own.root
    manager.begin()
    in_thread(lambda: set_one(root))
    assert root.n == 1
    in_thread(manager.commit)
    assert (root.n, type(root)) == (1, Thing)


def test_a_deleted_manager_leaves_no_checkouts(
    db: Database, open_database: Callable[..., Database]
) -> None:
    elect(db, Thing(n=0))
    managers = [transaction.TransactionManager()]
    own = open_database(transaction_manager=lambda: managers[-1] if managers else None)
    root: Any = own.root
    checkout(root)
    assert type(root) is not Thing
    managers.clear()
    gc.collect()
    gc.collect()  # the first call deletes the manager, the second its checkouts
    assert root.__dict__ == {"n": 0}
    assert type(root) is Thing


def test_a_manager_deleted_in_its_transaction_leaves_the_thread_usable(
    open_database: Callable[..., Database],
) -> None:
    managers = [transaction.TransactionManager(explicit=True)]
    own = open_database(transaction_manager=lambda: managers[-1] if managers else None)
    managers[-1].begin()
    assert own.ensure_root(Thing).__dict__ == {}
    managers.clear()
    gc.collect()
    new: Any = Thing(n=0)
    set_one(new)
    assert new.n == 1
    with pytest.raises(ObjectGraphError):
        transaction.commit()
    transaction.abort()


# --- Threads


@pytest.mark.parametrize("kind", [Thing, PersistentDict])
def test_a_thread_that_was_handed_an_object_catches_up(
    db: Database, open_database: Callable[..., Database], worker: Worker, kind: Any
) -> None:
    """It only reads an object in memory, which the database does not notice."""
    root = elect(db, kind(child=Thing(n=0)))
    child = root["child"] if kind is PersistentDict else root.child
    other = open_database()
    oid = child._p_oid
    worker.do(transaction.begin)
    assert worker.do(lambda: child.n) == 0
    for n in 1, 2:
        change(other.get(oid), n=n)
        assert child.n == n - 1
        worker.do(transaction.begin)
        assert worker.do(lambda: child.n) == n


def test_a_thread_with_its_own_instance_does_not_move_others(
    db: Database, open_database: Callable[..., Database], worker: Worker
) -> None:
    elect(db, Thing(n=0))
    mine = open_database()
    theirs = worker.do(open_database)
    assert mine.root.n == worker.do(lambda: theirs.root.n) == 0
    in_thread(lambda: change(db.root, n=1))
    worker.do(transaction.begin)
    assert worker.do(lambda: theirs.root.n) == 1
    assert mine.root.n == 0


def test_an_isolated_view_shows_the_state_of_one_moment(db: Database, worker: Worker) -> None:
    """Two reads of one transaction see one state, whatever other threads commit or begin."""
    root = elect(db, PersistentDict(a=Counter(100), b=Counter(100)))

    def transfer() -> None:
        for name, amount in ("a", -50), ("b", 50):
            checkout(root[name])
            root[name].count += amount
        transaction.commit()

    with db.isolated_view() as view:
        transaction.begin()
        seen = view.root["a"].count
        worker.do(transaction.begin)
        worker.do(transfer)
        worker.do(transaction.begin)
        assert seen + view.root["b"].count == 200
        transaction.begin()
        assert (view.root["a"].count, view.root["b"].count) == (50, 150)
        checkout(view.root["a"])
        view.root["a"].count += 1
        worker.do(transfer)
        transaction.commit()
    transaction.begin()
    assert (root["a"].count, root["b"].count) == (1, 200)
    assert view.closed


def test_a_view_belongs_to_the_thread_that_uses_it(db: Database, worker: Worker) -> None:
    """It does not belong to the thread that opened it."""
    root = elect(db, Counter(0))
    with db.isolated_view() as view:
        worker.do(transaction.begin)
        assert worker.do(lambda: view.root.count) == 0
        change(root, count=1)
        transaction.begin()
        assert worker.do(lambda: view.root.count) == 0
        worker.do(transaction.begin)
        assert worker.do(lambda: view.root.count) == 1
        worker.do(transaction.abort)


def test_a_failing_file_affects_only_threads_that_use_it(
    db: Database, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    elect(db, Counter(0))
    db._p_store.lost = OSError("gone")
    db._p_store.log.close()
    worker.do(transaction.begin)
    assert "cannot catch up" in caplog.text
    with pytest.raises(ValueError, match="closed"):
        transaction.begin()
    db._p_store.closed = True


# --- The root


def test_one_of_two_elections_by_instances_conflicts(
    db: Database, open_database: Callable[..., Database], worker: Worker
) -> None:
    """Two workers start on a new file, and both find no root."""
    other = open_database()

    def start(database: Database, name: str) -> None:
        if database.root is None:
            database.elect(PersistentDict())
        checkout(database.root)
        database.root[name] = "precious"

    transaction.begin()
    worker.do(transaction.begin)
    start(db, "first")
    worker.do(lambda: start(other, "second"))
    transaction.commit()
    with pytest.raises(ReadConflictError) as conflict:
        worker.do(transaction.commit)
    assert [root._p_oid for root in conflict.value.objects] == [db.root._p_oid]
    worker.do(transaction.abort)
    worker.do(lambda: transaction.manager.run(lambda: start(other, "second")))
    transaction.begin()
    assert dict(db.root) == dict(other.root) == {"first": "precious", "second": "precious"}


def test_one_of_two_elections_by_threads_conflicts(db: Database, worker: Worker) -> None:
    worker.do(transaction.begin)
    assert worker.do(lambda: db.root) is None
    root = elect(db, Thing())
    with pytest.raises(WriteConflictError):
        worker.do(lambda: db.elect(Thing()))
    worker.do(transaction.abort)
    with pytest.raises(RootExistsError, match="has a root"):
        worker.do(lambda: db.elect(Thing()))
    assert db.root is root


def test_a_root_is_replaced_on_request(
    db: Database, open_database: Callable[..., Database]
) -> None:
    old = elect(db, Thing(n=1))
    db.elect(old)
    transaction.commit()
    with pytest.raises(RootExistsError):
        db.elect(Thing(n=2))
    transaction.abort()
    other = open_database()
    assert other.root.n == 1
    in_thread(lambda: replace_root(db))
    assert (db.root.n, old.n) == (2, 1)
    # A change to an object that is no longer the root would be lost with it.
    checkout(other.root)
    other.root.n = 3
    with pytest.raises(ReadConflictError):
        transaction.commit()
    transaction.abort()
    other.elect(Thing(n=4), replace=True)
    transaction.commit()
    transaction.begin()
    assert db.root.n == other.root.n == 4


def test_ensure_root_returns_the_root_or_makes_one(
    db: Database, open_database: Callable[..., Database]
) -> None:
    root = db.ensure_root(lambda: Thing(child=Thing(n=1)))
    assert not db.wait(0)
    with pytest.raises(RootExistsError):
        db.elect(Thing())
    assert root is db.root is db.ensure_root(lambda: pytest.fail("there is a root"))
    assert (root.child.n, open_database().root.child.n) == (1, 1)
    assert isinstance(open_database("other").ensure_root(), PersistentDict)
    # It is not part of the current transaction.
    third = open_database("third")
    checkout(root)
    root.child = None
    assert third.ensure_root() is third.root
    transaction.abort()
    assert root.child.n == 1


def test_any_number_of_threads_make_one_root(
    open_database: Callable[..., Database],
) -> None:
    instances = [open_database() for _ in range(4)]
    barrier = threading.Barrier(8)
    oids = []

    def make(database: Database) -> None:
        barrier.wait()
        oids.append(database.ensure_root()._p_oid)

    threads = [threading.Thread(target=make, args=[instances[n % 4]]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(oids) == 8
    assert len(set(oids)) == 1
    transaction.begin()
    assert {len(database) for database in instances} == {1}
