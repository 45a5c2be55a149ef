"""The checkouts and participants of a thread, or of a transaction manager.

The objects of a database that uses `transaction.manager` belong to the thread that works
with them. Those of a database that was given a transaction manager belong to that manager,
whichever thread or task works with them.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any

import transaction
from transaction import ThreadTransactionManager

from dobbin._checkouts import Checkout, Table
from dobbin._slots import store_of

if TYPE_CHECKING:
    from dobbin._checkouts import CheckoutOwner
    from dobbin._store import Store


_log = logging.getLogger("dobbin")


class Synchronizer:
    """Follows the transactions of a context for a store; the `transaction` package calls it.

    `root` is the root's oid, and `revision` the store's count of visible changes, both as of
    the beginning of the current transaction. `touched` is false until the context uses
    something of the store other than objects that can be read without it.
    """

    def __init__(self, store: Store, context: Context) -> None:
        # The context keeps this; a reference back would keep a thread's checkouts alive.
        self.store = weakref.ref(store)
        self._context = weakref.ref(context)
        self.touched = False
        self.root, self.revision = store.seen()

    def newTransaction(self, _transaction: Any) -> None:
        """Catch up with what others have committed; `transaction` calls this."""
        store, context = self.store(), self._context()
        if store is None or context is None or store.closed:
            return
        if self.touched:
            self.root, self.revision = store.refresh()
        elif store.is_shared and not context.touches(store.path):
            self._refresh_untouched(store)
        if context.has_own_manager:
            current.set(context)

    def _refresh_untouched(self, store: Store) -> None:
        """Catch up for a thread that may not use the database at all."""
        try:
            self.root, self.revision = store.refresh()
        except Exception as error:  # noqa: BLE001 -- the thread's transactions must not fail
            _log.warning("%s: cannot catch up: %s", store.path, error)

    def beforeCompletion(self, _transaction: Any) -> None:
        """Check for unnoticed changes; `transaction` calls this."""
        store = self.store()
        if self.touched and store is not None and not store.closed:
            store.find_unnoticed_changes()

    def afterCompletion(self, _transaction: Any) -> None:
        """Use the current root for the next transaction; `transaction` calls this."""
        store, context = self.store(), self._context()
        if store is not None:
            self.root = store.root_oid
        if context is not None and current.get() is context:
            current.set(None)


class Context:
    """The state of one user of transactions: a thread, or a transaction manager."""

    def __init__(self, manager: Any = None) -> None:
        self.has_own_manager = manager is not None
        self._manager = None if manager is None else weakref.ref(manager)
        self.checkouts = Table()
        self.participants: dict[Store | None, CheckoutOwner] = {}
        self._synchronizers: dict[int, Synchronizer] = {}  # by the ids of stores

    @property
    def is_deleted(self) -> bool:
        """Whether the transaction manager has been deleted."""
        return self._manager is not None and self._manager() is None

    def transaction(self) -> Any:
        """Return the current transaction; may raise `transaction.interfaces.NoTransaction`."""
        return self._current_manager().get()

    def _current_manager(self) -> Any:
        manager = transaction.manager if self._manager is None else self._manager()
        if manager is None:
            raise RuntimeError("the transaction manager of the objects has been deleted")
        return manager

    def synchronizer(self, store: Store) -> Synchronizer | None:
        """Return the synchronizer for a store, None if the context does not follow it."""
        found = self._synchronizers.get(id(store))
        return found if found is not None and found.store() is store else None

    def synchronize(self, store: Store, *, touched: bool = True) -> Synchronizer:
        """Follow the transactions of this context for a store."""
        found = self.synchronizer(store)
        if found is None:
            self._drop_deleted()
            found = self._synchronizers[id(store)] = Synchronizer(store, self)
            found.touched = touched
            self._current_manager().registerSynch(found)
        elif touched:
            found.touched = True
        return found

    def forget(self, store: Store) -> None:
        """Do not follow a store until it is used again."""
        found = self._synchronizers.pop(id(store), None)
        if found is not None:
            self._current_manager().unregisterSynch(found)

    def touches(self, path: str) -> bool:
        """Whether the context has used an instance of the file at a path."""
        touched = [
            found.store() for found in list(self._synchronizers.values()) if found.touched
        ]
        return any(store is not None and store.path == path for store in touched)

    def _drop_deleted(self) -> None:
        for key, found in list(self._synchronizers.items()):
            if found.store() is None:
                del self._synchronizers[key]


class _GiveBackOnExit:
    """Gives back the checkouts of a thread when the thread's own data are deleted."""

    def __init__(self, checkouts: Table) -> None:
        self._checkouts = checkouts

    def __del__(self) -> None:
        self._checkouts.give_back_all()


class _Thread(threading.local):
    def __init__(self) -> None:
        self.context = Context()
        self.checkouts = self.context.checkouts
        self._give_back_on_exit = _GiveBackOnExit(self.checkouts)


thread = _Thread()
# The context whose manager has begun a transaction here: objects that are in no database
# belong to it.
current: contextvars.ContextVar[Context | None] = contextvars.ContextVar(
    "current", default=None
)
_managed: list[bool] = []  # not empty once a context other than those of threads was made
_of_managers: weakref.WeakKeyDictionary[Any, Context] = weakref.WeakKeyDictionary()


def context_of(manager: Any) -> Context:
    """Return the context of a transaction manager; None stands for the thread's."""
    if isinstance(manager, ThreadTransactionManager):
        manager = None if manager is transaction.manager else manager.manager
    if manager is None:
        return thread.context
    found = _of_managers.get(manager)
    if found is None:
        _managed[:] = [True]
        # Two threads that use one manager at the same time get the same context.
        found = _of_managers.setdefault(manager, Context(manager))
    return found


def context_for(store: Store) -> Context:
    """Return the context that checks out objects of a store where this is called."""
    if not store.has_own_manager:
        return thread.context
    return context_of(store.manager() if callable(store.manager) else store.manager)


def current_context() -> Context:
    """Return the context of objects that are in no database."""
    return _begun_context() or thread.context


def _begun_context() -> Context | None:
    """Return the context whose manager has begun a transaction here."""
    found = current.get()
    if found is not None and found.is_deleted:
        # The manager was deleted without ending its transaction.
        current.set(None)
        return None
    return found


def checkout_of(obj: Any) -> Checkout | None:
    """Return the checkout of an object in the current context, None if it has none."""
    found = thread.checkouts.get(id(obj))
    return found if found is not None or not _managed else _of_manager(obj)


def _of_manager(obj: Any) -> Checkout | None:
    context, store = _begun_context(), store_of(obj)
    found = None if context is None else context.checkouts.get(id(obj))
    if found is None and store is not None and store.has_own_manager:
        found = context_for(store).checkouts.get(id(obj))
    return found


# --- Threads that read objects without using the database


# By id: the list of its references can be taken while other threads change it.
_shared: weakref.WeakValueDictionary[int, Store] = weakref.WeakValueDictionary()


def share(store: Store) -> None:
    """Have a store follow the transactions of all threads.

    A thread may have received objects of the database from another thread, and reading them
    does not register the thread.
    """
    store.is_shared = True
    _shared[id(store)] = store


def isolate(store: Store) -> None:
    """Have a store follow only the transactions of threads that use it."""
    store.is_shared = False
    _shared.pop(id(store), None)
    thread.context.forget(store)


class _AllThreads:
    """Follows all shared stores for a thread that begins a transaction."""

    def newTransaction(self, _transaction: Any) -> None:
        """Follow the stores that this thread may be using; `transaction` calls this."""
        for reference in _shared.valuerefs():
            store = reference()
            if store is not None and not store.closed:
                thread.context.synchronize(store, touched=False)

    def beforeCompletion(self, _transaction: Any) -> None:
        """Do nothing; `transaction` calls this."""

    def afterCompletion(self, _transaction: Any) -> None:
        """Do nothing; `transaction` calls this."""


_all_threads = _AllThreads()


class _Manager(ThreadTransactionManager):  # type: ignore[misc]  # it has no types
    """`transaction.manager` with `_all_threads` registered in every thread.

    A `threading.local` is initialised again by each thread that uses it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.manager.registerSynch(_all_threads)


if type(transaction.manager) is ThreadTransactionManager:
    # Threads that have used it before synchronize when they use a database.
    transaction.manager.__class__ = _Manager
    transaction.manager.registerSynch(_all_threads)
