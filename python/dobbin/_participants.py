"""What takes part in transactions: one participant for each database that is changed.

A commit copies streams that can be read once at its vote, takes the log's lock, reads what
others have committed, compares what is checked out with it, and writes. A failure before the
end leaves a record of a failed transaction, and gives back all that was checked out.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dobbin._checkouts import Checkout, Table, give_back, take_over
from dobbin._contexts import Context, present_context, thread
from dobbin._pickling import Writer, spool_streams
from dobbin._slots import JAR, OID
from dobbin.exc import ObjectGraphError, ReadConflictError, WriteConflictError

if TYPE_CHECKING:
    from dobbin.database import Database
    from dobbin.persistent import Persistent
    from zc.zrs import _zrs


class Participant:
    """A context's part in its present transaction that concerns one database, or none."""

    def __init__(self, database: Database | None, context: Context) -> None:
        self._database = database
        self._context = context
        present = context.transaction()
        present.join(self)
        present.addBeforeCommitHook(self.prepare)
        context.participants[database] = self

    def prepare(self) -> None:
        """Do what takes time before anything in the transaction takes a lock."""

    @property
    def table(self) -> Table:
        """The checkouts of the context."""
        return self._context.checkouts

    def sortKey(self) -> str:
        """Return what puts all participants into one order, for `transaction`."""
        return "dobbin"

    def checkouts(self) -> list[Checkout]:
        """Return what is checked out and this participant is to write."""
        everything = list(self.table.values())
        return [checkout for checkout in everything if checkout.participant is self]

    def leave(self) -> None:
        """Give back what is checked out, and take part no longer."""
        for checkout in self.checkouts():
            give_back(checkout)
        if self._context.participants.get(self._database) is self:
            del self._context.participants[self._database]

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

    def __init__(self, context: Context) -> None:
        super().__init__(None, context)

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

    def __init__(self, database: Database, context: Context, root_before: int | None) -> None:
        super().__init__(database, context)
        self.root: Persistent | None = None
        self.added: list[Persistent] = []
        self._root_before = root_before
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

    def prepare(self) -> None:
        """Copy streams: nobody waits for a slow one, and a second attempt has its bytes."""
        objects = [checkout.obj for checkout in self.checkouts()]
        spool_streams(self._database, self, [*objects, *self.added])

    def tpc_vote(self, _transaction: Any) -> None:
        """Write the changes; raises `ConflictError` if others were faster."""
        self._adopt_connected()
        checkouts = self.checkouts()
        changed = [checkout for checkout in checkouts if checkout.settle()]
        if not changed and not self.added and self.root is None:
            return
        self._database._check_open()
        self._check_alone()
        objects = [checkout.obj for checkout in changed]
        # Streams that were added since `prepare`, by another hook for example.
        spool_streams(self._database, self, [*objects, *self.added])
        self._log.lock()
        self._locked = True
        self._database._begin(int(time.time() * 1e6))
        self._begun = True
        self._check_root(objects)
        self._check_conflicts([found for found in checkouts if found.is_outdated()])
        self._writer = Writer(self._database, self)
        self._writer.write(objects, self.added)
        if self.root is not None:
            self._log.set_root(self._writer.oid_of(self.root))
        self._log.vote()

    def _check_alone(self) -> None:
        """Refuse to wait for ourselves: another instance of the file may have its lock."""
        for other in self._context.participants.values():
            if (
                isinstance(other, Connected)
                and other._locked
                and Path(other._database.path).samefile(self._database.path)
            ):
                raise RuntimeError(
                    f"two instances of {self._database.path} were changed in one transaction"
                )

    def _adopt_connected(self) -> None:
        """Take over objects that somebody has connected to the database."""
        for context in self._contexts():
            for checkout in list(context.checkouts.values()):
                connected = JAR.__get__(checkout.obj) is self._database
                if connected and self._is_ours(checkout):
                    take_over(checkout, self)

    def _contexts(self) -> list[Context]:
        """Return where checkouts of this transaction may be, that of the database first."""
        found = [self._context]
        for context in thread.context, present_context():
            if context not in found:
                found.append(context)
        return found

    def _is_ours(self, checkout: Checkout) -> bool:
        # One of another database of this context, or of no database.
        other = checkout.participant
        return other is not self and not (
            isinstance(other, Connected) and other._database is self._database
        )

    def checkout_of(self, obj: Persistent) -> Checkout | None:
        """Return what is to be written of an object, None if that is its shared state."""
        for context in self._contexts():
            found = context.checkouts.get(id(obj))
            if found is not None:
                return found
        return None

    def adopt(self, obj: Persistent) -> None:
        """Write a new object's own state, if it is checked out."""
        found = self.checkout_of(obj)
        if found is not None and found.participant is not self:
            take_over(found, self)

    def _check_root(self, changed: list[Persistent]) -> None:
        """Raise `ConflictError` if another root was elected, and that matters here."""
        if self._database._root_oid == self._root_before:
            return
        if self.root is not None or any(
            self._root_before == OID.__get__(obj) is not None for obj in changed
        ):
            self._database._raise_root_conflict()

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
            # A thread that sees the transaction in the file waits until its objects show it.
            with self._database._looking:
                number = self._log.finish()
                if self._writer is not None:
                    self._database._publish(self._writer, number, self._context)
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
                give_back(checkout)
        for checkout, saved in self._saved:
            self._participant.table.setdefault(id(checkout.obj), checkout)
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
    """Return the present transaction's participant for a database, or for none."""
    context = present_context() if database is None else database._context()
    found: Participant | None = context.participants.get(database)
    if found is None:
        found = Unconnected(context) if database is None else database._join(context)
    return found
