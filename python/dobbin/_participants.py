"""Participants of transactions: one for each database that a transaction changes.

A participant first copies streams that can be read only once. In its vote it takes the log's
lock, reads what others have committed, compares the checkouts with it, and writes. A failure
before the end leaves a record of a failed transaction, and gives back all checkouts.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dobbin._checkouts import Checkout, CheckoutOwner, Table, give_back, take_over
from dobbin._contexts import Context, context_for, current_context, thread
from dobbin._slots import OID, store_of
from dobbin._writing import Writer, spool_streams
from dobbin.exc import ObjectGraphError, ReadConflictError, WriteConflictError

if TYPE_CHECKING:
    from dobbin._slots import Slots
    from dobbin._store import Store
    from zc.zrs import _zrs


class Participant:
    """A context's part in its current transaction, for one store or for none."""

    def __init__(self, store: Store | None, context: Context) -> None:
        self._key = store
        self._context = context
        present = context.transaction()
        present.join(self)
        present.addBeforeCommitHook(self.prepare)
        context.participants[store] = self

    def prepare(self) -> None:
        """Do slow work before anything in the transaction takes a lock."""

    @property
    def table(self) -> Table:
        """The checkouts of the context."""
        return self._context.checkouts

    def sortKey(self) -> str:
        """Return the key by which `transaction` orders all participants."""
        return "dobbin"

    def checkouts(self) -> list[Checkout]:
        """Return the checkouts that this participant writes."""
        everything = list(self.table.values())
        return [checkout for checkout in everything if checkout.owner is self]

    def leave(self) -> None:
        """Give back the checkouts, and leave the transaction."""
        for checkout in self.checkouts():
            give_back(checkout)
        if self._context.participants.get(self._key) is self:
            del self._context.participants[self._key]

    def savepoint(self) -> Savepoint:
        """Return a savepoint, which can restore the current state."""
        return Savepoint(self)

    def abort(self, _transaction: Any) -> None:
        """Discard all changes."""
        self.leave()

    def tpc_begin(self, _transaction: Any) -> None:
        """Do nothing yet."""

    def commit(self, _transaction: Any) -> None:
        """Do nothing yet: what others commit until the vote counts."""

    def tpc_vote(self, _transaction: Any) -> None:
        """Write the changes, or raise the reason why they cannot be committed."""

    def tpc_finish(self, _transaction: Any) -> None:
        """Finish the transaction."""
        self.leave()

    def tpc_abort(self, _transaction: Any) -> None:
        """Discard all changes."""
        self.leave()


class UnconnectedParticipant(Participant):
    """The participant for objects that are in no database when they are checked out."""

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


class StoreParticipant(Participant):
    """The participant for a store.

    `root` is the object that the transaction elects as the root, if any, and `added` are the
    objects that were added explicitly.
    """

    def __init__(self, store: Store, context: Context, root_before: int | None) -> None:
        super().__init__(store, context)
        self.store = store
        self.root: Slots | None = None
        self.added: list[Slots] = []
        self._root_before = root_before
        self.locked = False
        self._begun = False
        self._writer: Writer | None = None

    @property
    def _log(self) -> _zrs.ObjectLog:
        # A forked child has its own log, also for objects that were checked out before.
        return self.store.log

    def sortKey(self) -> str:
        """Return a key that is the same in all processes."""
        return f"dobbin:{self.store.path}:{id(self.store)}"

    def leave(self) -> None:
        """Give back the checkouts; objects that were to be added are in no database."""
        super().leave()
        for obj in self.added:
            self.store.disconnect(obj)
        self.root, self.added, self._writer = None, [], None

    def savepoint(self) -> Savepoint:
        """Return a savepoint, which can restore the current state."""
        return StoreSavepoint(self)

    def prepare(self) -> None:
        """Copy streams: no one waits for a slow one, and a retry has its bytes."""
        objects = [checkout.obj for checkout in self.checkouts()]
        spool_streams(self.store, self, [*objects, *self.added])

    def tpc_vote(self, _transaction: Any) -> None:
        """Write the changes; raises `ConflictError` if others have changed the same objects."""
        self._adopt_connected()
        checkouts = self.checkouts()
        changed = [checkout for checkout in checkouts if checkout.find_changes()]
        if not changed and not self.added and self.root is None:
            return
        self.store.check_open()
        self._check_alone()
        objects = [checkout.obj for checkout in changed]
        # Streams that were added since `prepare`, for example by another hook.
        spool_streams(self.store, self, [*objects, *self.added])
        self._log.lock()
        self.locked = True
        self.store.begin(int(time.time() * 1e6))
        self._begun = True
        self._check_root(objects)
        self._check_conflicts([found for found in checkouts if found.is_outdated()])
        self._writer = Writer(self.store, self)
        self._writer.write(objects, self.added)
        if self.root is not None:
            self._log.set_root(self._writer.oid_of(self.root))
        self._log.vote()

    def _check_alone(self) -> None:
        """Raise if this transaction already holds the file's lock through another instance."""
        for other in self._context.participants.values():
            if (
                isinstance(other, StoreParticipant)
                and other.locked
                and Path(other.store.path).samefile(self.store.path)
            ):
                raise RuntimeError(
                    f"two instances of {self.store.path} were changed in one transaction"
                )

    def _adopt_connected(self) -> None:
        """Take over objects that have been connected to the database."""
        for context in self._contexts():
            for checkout in list(context.checkouts.values()):
                if self._may_adopt(checkout) and store_of(checkout.obj) is self.store:
                    take_over(checkout, self)

    def _contexts(self) -> list[Context]:
        """Return where checkouts of this transaction may be, the store's context first."""
        found = [self._context]
        for context in thread.context, current_context():
            if context not in found:
                found.append(context)
        return found

    def _may_adopt(self, checkout: Checkout) -> bool:
        # Its owner is a participant of another database in this context, or of none.
        other = checkout.owner
        return other is not self and not (
            isinstance(other, StoreParticipant) and other.store is self.store
        )

    def checkout_of(self, obj: Slots) -> Checkout | None:
        """Return the checkout to write for an object, None to write its shared state."""
        for context in self._contexts():
            found = context.checkouts.get(id(obj))
            if found is not None:
                return found
        return None

    def adopt(self, obj: Slots) -> None:
        """Take over a new object's checkout, if it has one."""
        found = self.checkout_of(obj)
        if found is not None and found.owner is not self:
            take_over(found, self)

    def _check_root(self, changed: list[Slots]) -> None:
        """Raise `ConflictError` if another root was elected and this transaction needs it."""
        if self.store.root_oid == self._root_before:
            return
        if self.root is not None or any(
            self._root_before == OID.__get__(obj) is not None for obj in changed
        ):
            raise self.store.root_conflict()

    def _check_conflicts(self, outdated: list[Checkout]) -> None:
        found = [checkout.obj for checkout in outdated if not checkout.resolve()]
        if not found:
            return
        if any(self.store.is_foreign(obj) for obj in found):
            raise ReadConflictError(*found)
        raise WriteConflictError(found[0])

    def tpc_finish(self, _transaction: Any) -> None:
        """End the transaction, make it visible to all threads, and wait until it is durable."""
        if not self.locked:
            self.leave()
            return
        try:
            self._begun = False
            # A thread that sees the transaction in the file waits until its objects show it.
            with self.store.visibility:
                number = self._log.finish()
                if self._writer is not None:
                    self._publish(self._writer, number)
            self.added = []
        finally:
            self._unlock()
            self.leave()
        self._log.sync()
        self._log.checkpoint()

    def _publish(self, writer: Writer, number: int) -> None:
        elects = self.root is not None
        self.store.publish(writer.written, writer.files, number, elects=elects)
        # The context has seen its own changes, but not others' since its transaction began.
        synchronizer = self._context.synchronizer(self.store)
        if synchronizer is not None:
            synchronizer.revision += 1

    def tpc_abort(self, _transaction: Any) -> None:
        """Leave a record of the failure, if there is space, and discard all changes."""
        try:
            if self._begun:
                self._begun = False
                self._log.fail()
        finally:
            self._unlock()
            self.leave()

    def _unlock(self) -> None:
        if self.locked:
            self.locked = False
            self._log.unlock()


class Savepoint:
    """The saved state of a participant's checkouts."""

    def __init__(self, participant: Participant) -> None:
        self._participant = participant
        checkouts = participant.checkouts()
        self._saved = [(checkout, checkout.saved()) for checkout in checkouts]

    def rollback(self) -> None:
        """Restore the saved state."""
        kept = {id(checkout) for checkout, _ in self._saved}
        for checkout in self._participant.checkouts():
            if id(checkout) not in kept:
                give_back(checkout)
        for checkout, saved in self._saved:
            self._participant.table.setdefault(id(checkout.obj), checkout)
            checkout.restore(saved)


class StoreSavepoint(Savepoint):
    """A savepoint with the root and the added objects."""

    def __init__(self, participant: StoreParticipant) -> None:
        super().__init__(participant)
        self._of_store = participant
        self._root, self._added = participant.root, list(participant.added)

    def rollback(self) -> None:
        """Restore the saved state."""
        super().rollback()
        for obj in self._of_store.added[len(self._added) :]:
            self._of_store.store.disconnect(obj)
        self._of_store.root, self._of_store.added = self._root, list(self._added)


def participant_for(store: Store | None) -> CheckoutOwner:
    """Return the current transaction's participant for a store, or for no store."""
    context = current_context() if store is None else context_for(store)
    found = context.participants.get(store)
    if found is not None:
        return found
    if store is None:
        return UnconnectedParticipant(context)
    store.check_open()
    return StoreParticipant(store, context, context.synchronize(store).root)
