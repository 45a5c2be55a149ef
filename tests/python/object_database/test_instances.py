"""Instances of one file, in this process and in others."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import transaction

from dobbin.persistent import PersistentDict, PersistentFile, checkout
from object_database.things import Counter, Thing, change, elect

if TYPE_CHECKING:
    from collections.abc import Callable

    from dobbin.database import Database

FORKS = 150
WAITING = Path(__file__).with_name("waiting.py")


def test_a_closed_database_raises(db: Database, open_database: Callable[..., Database]) -> None:
    root = elect(db, Thing(child=Thing(n=1)))
    other = open_database()
    child = other.root.child
    other.close()
    other.close()
    with pytest.raises(ValueError, match="closed"):
        child.n  # noqa: B018
    with pytest.raises(ValueError, match="closed"):
        checkout(other.root)
    transaction.begin()
    assert root.child.n == 1


def test_a_waiting_thread_returns_after_a_commit(
    db: Database, open_database: Callable[..., Database]
) -> None:
    root = elect(db, Thing(n=0))
    other = open_database()
    assert not other.wait(0)
    assert not other.wait(0.01)
    for n in 1, 2, 3:
        thread = threading.Thread(target=lambda n=n: change(db.root, n=n))
        thread.start()
        assert other.wait()
        assert other.root.n == n - 1
        # The waiting thread finds the whole transaction.
        transaction.begin()
        assert other.root.n == n
        thread.join()
        assert root.n == n
        assert not other.wait(0)
    db.compact()
    assert other.wait(0)
    transaction.begin()
    assert not other.wait(-1)
    with pytest.raises(ValueError, match="seconds"):
        other.wait(float("nan"))


def test_uncommitted_transactions_do_not_end_a_wait(
    db: Database, open_database: Callable[..., Database]
) -> None:
    root = elect(db, Thing(n=0))
    other = open_database()
    checkout(root)
    root.file = PersistentFile(io.BytesIO(b"x" * 10_000_000))
    root.bad = threading.Lock()
    with pytest.raises(TypeError):
        transaction.commit()
    assert not other.wait(0)
    transaction.abort()
    assert not other.wait(0)
    # Neither do this thread's own commits.
    change(root, n=1)
    assert not db.wait(0)
    assert other.wait(0)


@pytest.mark.parametrize("watches", [True, False], ids=["watches", "no watches"])
def test_waiting_takes_hardly_any_processor_time(
    db: Database,
    watches: bool,
) -> None:
    """A waiting process hardly runs, and still notices each commit.

    If the system has no more watches, it checks the file at intervals.
    """
    elect(db, Thing(n=0))
    program = [sys.executable, str(WAITING), db.path, "watches" if watches else "no watches"]
    waiting = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "0\n"
    for n in range(1, 6):
        time.sleep(0.2)
        change(db.root, n=n)
        assert waiting.stdout.readline() == f"{n}\n"
    change(db.root, n=-1)
    rest, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    seconds, busy = map(float, rest.split())
    assert busy < seconds / 2, f"{busy} of {seconds} seconds"


def test_a_wait_can_be_interrupted(db: Database) -> None:
    elect(db, Thing(n=0))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            db.wait(60)
    finally:
        signal.signal(signal.SIGALRM, before)


def in_child(work: Callable[[], Any]) -> int:
    """Call `work` in a forked child, which then exits; return its process id."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 -- the parent sees the status
            os._exit(1)
    return pid


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_child_process_opens_the_file_again(db: Database, when: str) -> None:
    """Objects that were checked out before the fork use it too."""
    root = elect(db, PersistentDict(parent=0, child=Counter(0)))
    db._p_store.log.lock()
    if when == "before":
        checkout(root["child"])
        root["child"].increment()

    def commit() -> None:
        if when == "after":
            transaction.abort()
            checkout(root["child"])
            root["child"].increment()
        transaction.commit()

    pid = in_child(commit)
    # The child waits for the lock, which only the parent holds.
    time.sleep(0.1)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    db._p_store.log.unlock()
    assert os.waitpid(pid, 0)[1] == 0
    transaction.abort()
    transaction.begin()
    assert root["child"].count == 1


def ended_well(pid: int) -> bool:
    """Wait for a child, which may hang before it runs."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status == 0
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def increment(counter: Any) -> None:
    checkout(counter)
    counter.increment()


class Busy:
    """Threads that commit, read, wait, and end with a checkout."""

    def __init__(self, db: Database, other: Database) -> None:
        self._db, self._other = db, other
        self._stop = threading.Event()
        commit = [lambda n=n: self._commit(n) for n in range(5)]
        work = [self._look, self._look, self._end_with_a_checkout, *commit]
        self._threads = [threading.Thread(target=target) for target in work]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _commit(self, number: int) -> None:
        while not self._stop.is_set():
            transaction.manager.run(lambda: increment(self._db.root[number]), 100)

    def _look(self) -> None:
        while not self._stop.is_set():
            transaction.begin()
            assert len(self._other.root) == 8
            self._other.wait(0.01)

    def _end_with_a_checkout(self) -> None:
        # The checkouts of a thread are given back when its data are deleted.
        while not self._stop.is_set():
            thread = threading.Thread(target=lambda: checkout(self._db.root[6]))
            thread.start()
            thread.join()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_child_forked_while_threads_work_does_not_hang(
    db: Database, open_database: Callable[..., Database]
) -> None:
    """Other threads may hold any locks at that moment."""
    elect(db, PersistentDict({n: Counter() for n in range(8)}))
    with Busy(db, open_database()):
        for _ in range(FORKS):
            pid = in_child(lambda: transaction.manager.run(lambda: increment(db.root[7]), 100))
            assert ended_well(pid)
    transaction.begin()
    assert db.root[7].count == FORKS


def test_two_instances_in_one_transaction_raise_instead_of_a_deadlock(
    db: Database, open_database: Callable[..., Database]
) -> None:
    root = elect(db, Thing(n=0))
    twin = open_database().root
    for obj in root, twin:
        checkout(obj)
        obj.n = 1
    with pytest.raises(RuntimeError, match="two instances of"):
        transaction.commit()
    transaction.abort()
    change(root, n=2)
    transaction.begin()
    assert twin.n == 2
