"""What takes part in transactions: per thread, one for each database that it changes.

A commit takes the log's lock at its vote, reads what others have committed, compares what
is checked out with it, and writes. Whatever fails before the end leaves a record of a
failed transaction, and gives back all that the thread has checked out.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transaction

from dobbin._checkouts import Checkout, give_back, thread
from dobbin._pickling import Writer
from dobbin._slots import JAR
from dobbin.exc import ObjectGraphError, ReadConflictError, WriteConflictError

if TYPE_CHECKING:
    from dobbin.database import Database
    from dobbin.persistent import Persistent
    from zc.zrs import _zrs


class Participant:
    """A thread's part in the present transaction that concerns one database, or none."""

    def __init__(self, database: Database | None) -> None:
        self._database = database
        transaction.get().join(self)
        thread.participants[database] = self

    def sortKey(self) -> str:
        """Return what puts all participants into one order, for `transaction`."""
        return "dobbin"

    def checkouts(self) -> list[Checkout]:
        """Return what this thread has checked out and we are to write."""
        everything = list(thread.checkouts.values())
        return [checkout for checkout in everything if checkout.participant is self]

    def leave(self) -> None:
        """Give back what is checked out, and take part no longer."""
        for checkout in self.checkouts():
            give_back(checkout.obj)
        if thread.participants.get(self._database) is self:
            del thread.participants[self._database]

    def savepoint(self) -> Savepoint:
        """Return what can bring back the present state."""
        return Savepoint(self)

    def abort(self, _transaction: Any) -> None:
        """Forget all changes."""
        self.leave()

    def tpc_begin(self, _transaction: Any) -> None:
        """Do nothing yet."""

    def commit(self, _transaction: Any) -> None:
        """Do nothing yet: what others commit until the vote counts."""

    def tpc_vote(self, _transaction: Any) -> None:
        """Write, or raise what prevents it."""

    def tpc_finish(self, _transaction: Any) -> None:
        """Make it count."""
        self.leave()

    def tpc_abort(self, _transaction: Any) -> None:
        """Forget all changes."""
        self.leave()


class Unconnected(Participant):
    """Takes part for objects that are in no database when they are checked out."""

    def __init__(self) -> None:
        super().__init__(None)

    def sortKey(self) -> str:
        """Return a key after those of databases, which may take objects over."""
        return "~dobbin"

    def tpc_vote(self, _transaction: Any) -> None:
        """Raise `ObjectGraphError` unless a database has taken every object over."""
        for checkout in self.checkouts():
            if checkout.is_outdated():
                raise WriteConflictError(checkout.obj)
            raise ObjectGraphError(checkout.obj)


class Connected(Participant):
    """Takes part for a database."""

    _database: Database

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.root: Persistent | None = None
        self.added: list[Persistent] = []
        self._locked = False
        self._begun = False
        self._writer: Writer | None = None

    @property
    def _log(self) -> _zrs.ObjectLog:
        # A forked child has one of its own, also for what was checked out before.
        return self._database._log

    def sortKey(self) -> str:
        """Return a key that is the same in all processes."""
        return f"dobbin:{self._database.path}:{id(self._database)}"

    def leave(self) -> None:
        """Give back what is checked out; what was to be new is in no database."""
        super().leave()
        for obj in self.added:
            self._database._disown(obj)
        self.root, self.added, self._writer = None, [], None

    def savepoint(self) -> Savepoint:
        """Return what can bring back the present state."""
        return ConnectedSavepoint(self)

    def tpc_vote(self, _transaction: Any) -> None:
        """Write the changes; raises `ConflictError` if others were faster."""
        self._adopt_connected()
        checkouts = self.checkouts()
        changed = [checkout for checkout in checkouts if checkout.settle()]
        if not changed and not self.added and self.root is None:
            return
        self._database._check_open()
        self._check_alone()
        self._log.lock()
        self._locked = True
        self._database._begin(int(time.time() * 1e6))
        self._begun = True
        self._check_conflicts([found for found in checkouts if found.is_outdated()])
        self._writer = Writer(self._database, self)
        self._writer.write([checkout.obj for checkout in changed], self.added)
        if self.root is not None:
            self._log.set_root(self._writer.oid_of(self.root))
        self._log.vote()

    def _check_alone(self) -> None:
        """Refuse to wait for ourselves: another instance of the file may have its lock."""
        for other in thread.participants.values():
            if (
                isinstance(other, Connected)
                and other._locked
                and Path(other._database.path).samefile(self._database.path)
            ):
                raise RuntimeError(
                    f"two instances of {self._database.path} were changed in one transaction"
                )

    def _adopt_connected(self) -> None:
        """Take over objects that another thread has connected to the database."""
        for checkout in list(thread.checkouts.values()):
            connected = JAR.__get__(checkout.obj) is self._database
            if connected and checkout.participant is not self:
                checkout.participant = self

    def _check_conflicts(self, outdated: list[Checkout]) -> None:
        found = [checkout.obj for checkout in outdated if not checkout.resolve()]
        if not found:
            return
        if any(self._database._is_foreign(obj) for obj in found):
            raise ReadConflictError(*found)
        raise WriteConflictError(found[0])

    def tpc_finish(self, _transaction: Any) -> None:
        """End the transaction, show it to all threads, and wait until it is durable."""
        if not self._locked:
            self.leave()
            return
        try:
            self._begun = False
            number = self._log.finish()
            if self._writer is not None:
                self._database._publish(self._writer, number, self.root)
            self.added = []
        finally:
            self._unlock()
            self.leave()
        self._log.sync()
        self._log.checkpoint()

    def tpc_abort(self, _transaction: Any) -> None:
        """Leave a record of the failure, if there is space, and forget all changes."""
        try:
            if self._begun:
                self._begun = False
                self._log.fail()
        finally:
            self._unlock()
            self.leave()

    def _unlock(self) -> None:
        if self._locked:
            self._locked = False
            self._log.unlock()


class Savepoint:
    """What a participant's objects were."""

    def __init__(self, participant: Participant) -> None:
        self._participant = participant
        checkouts = participant.checkouts()
        self._saved = [(checkout, checkout.saved()) for checkout in checkouts]

    def rollback(self) -> None:
        """Bring it back."""
        kept = {id(checkout) for checkout, _ in self._saved}
        for checkout in self._participant.checkouts():
            if id(checkout) not in kept:
                give_back(checkout.obj)
        for checkout, saved in self._saved:
            thread.checkouts.setdefault(id(checkout.obj), checkout)
            checkout.restore(saved)


class ConnectedSavepoint(Savepoint):
    """The same, with what was to be added to the database."""

    def __init__(self, participant: Connected) -> None:
        super().__init__(participant)
        self._connected = participant
        self._root, self._added = participant.root, list(participant.added)

    def rollback(self) -> None:
        """Bring it back."""
        super().rollback()
        for obj in self._connected.added[len(self._added) :]:
            self._connected._database._disown(obj)
        self._connected.root, self._connected.added = self._root, list(self._added)


def participant_for(database: Database | None) -> Participant:
    """Return this thread's participant for a database, or for none."""
    found: Participant | None = thread.participants.get(database)
    if found is None:
        found = Unconnected() if database is None else database._join()
    return found
