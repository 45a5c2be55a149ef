"""Which checkouts and participants belong together: those of a thread, or of a manager.

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
from dobbin._slots import JAR

if TYPE_CHECKING:
    from dobbin._participants import Participant
    from dobbin.database import Database


_log = logging.getLogger("dobbin")


class Attendance:
    """Follows the transactions of a context for a database, and keeps what it has seen.

    `root` is the root's oid and `revision` the database's count of visible changes when the
    present transaction began. Until something of the database was used, other than objects
    that can be read without it, `touched` is false.
    """

    def __init__(self, database: Database, context: Context) -> None:
        # The context keeps this; a reference back would keep a thread's checkouts alive.
        self.database = weakref.ref(database)
        self._context = weakref.ref(context)
        self.touched = False
        self.root, self.revision = database._seen()

    def newTransaction(self, _transaction: Any) -> None:
        """Catch up with what others have committed; `transaction` calls this."""
        database, context = self.database(), self._context()
        if database is None or context is None or database.closed:
            return
        if self.touched:
            self.root, self.revision = database._begin_to_see()
        elif database._is_shared and not context.touches(database.path):
            self._follow(database)
        if context.has_own_manager:
            current.set(context)

    def _follow(self, database: Database) -> None:
        """Catch up for a thread that may have nothing to do with the database."""
        try:
            self.root, self.revision = database._begin_to_see()
        except Exception as error:  # noqa: BLE001 -- its transactions are not to fail
            _log.warning("%s: cannot catch up: %s", database.path, error)

    def beforeCompletion(self, _transaction: Any) -> None:
        """Let the database look for mistakes; `transaction` calls this."""
        database = self.database()
        if self.touched and database is not None and not database.closed:
            database._find_unnoticed_changes()

    def afterCompletion(self, _transaction: Any) -> None:
        """Take the present root for the next transaction's; `transaction` calls this."""
        database, context = self.database(), self._context()
        if database is not None:
            self.root = database._root_oid
        if context is not None and current.get() is context:
            current.set(None)


class Context:
    """The state of one user of transactions: a thread, or a transaction manager."""

    def __init__(self, manager: Any = None) -> None:
        self.has_own_manager = manager is not None
        self._manager = None if manager is None else weakref.ref(manager)
        self.checkouts = Table()
        self.participants: dict[Database | None, Participant] = {}
        self._attendances: dict[int, Attendance] = {}  # by the ids of databases

    @property
    def is_deleted(self) -> bool:
        """Whether the transaction manager has been deleted."""
        return self._manager is not None and self._manager() is None

    def transaction(self) -> Any:
        """Return the present transaction; may raise `transaction.interfaces.NoTransaction`."""
        return self._present_manager().get()

    def attendance(self, database: Database) -> Attendance | None:
        """Return what follows the transactions of this context for a database."""
        found = self._attendances.get(id(database))
        return found if found is not None and found.database() is database else None

    def forget(self, database: Database) -> None:
        """Do not follow a database until it is used again."""
        found = self._attendances.pop(id(database), None)
        if found is not None:
            self._present_manager().unregisterSynch(found)

    def _present_manager(self) -> Any:
        manager = transaction.manager if self._manager is None else self._manager()
        if manager is None:
            raise RuntimeError("the transaction manager of the objects has been deleted")
        return manager

    def attend(self, database: Database, *, touched: bool = True) -> Attendance:
        """Follow the transactions of this context for a database."""
        found = self.attendance(database)
        if found is None:
            self._drop_deleted()
            found = self._attendances[id(database)] = Attendance(database, self)
            found.touched = touched
            self._present_manager().registerSynch(found)
        elif touched:
            found.touched = True
        return found

    def touches(self, path: str) -> bool:
        """Whether an instance of the file at a path was used here."""
        touched = [
            found.database() for found in list(self._attendances.values()) if found.touched
        ]
        return any(database is not None and database.path == path for database in touched)

    def _drop_deleted(self) -> None:
        for key, found in list(self._attendances.items()):
            if found.database() is None:
                del self._attendances[key]


class _Ending:
    """Gives back what a thread has checked out when the thread's own data are dropped."""

    def __init__(self, checkouts: Table) -> None:
        self._checkouts = checkouts

    def __del__(self) -> None:
        self._checkouts.give_back_all()


class _Thread(threading.local):
    def __init__(self) -> None:
        self.context = Context()
        self.checkouts = self.context.checkouts
        self._ending = _Ending(self.checkouts)


thread = _Thread()
# The context whose manager has begun a transaction here: objects that are in no database
# belong to it.
current: contextvars.ContextVar[Context | None] = contextvars.ContextVar(
    "current", default=None
)
_managed: list[bool] = []  # not empty once there was another context than those of threads
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


def present_context() -> Context:
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
    """Return what is checked out of an object where this is called."""
    found = thread.checkouts.get(id(obj))
    return found if found is not None or not _managed else _of_manager(obj)


def _of_manager(obj: Any) -> Checkout | None:
    context, jar = _begun_context(), JAR.__get__(obj)
    found = None if context is None else context.checkouts.get(id(obj))
    if found is None and jar is not None and jar._has_own_manager:
        found = jar._context().checkouts.get(id(obj))
    return found


# --- Threads of which nothing is known


# By id: the list of its references can be taken while other threads change it.
_shared: weakref.WeakValueDictionary[int, Database] = weakref.WeakValueDictionary()


def share(database: Database) -> None:
    """Have a database follow the transactions of all threads.

    A thread may have been handed objects of the database, and reading these shows nobody
    that it uses them.
    """
    _shared[id(database)] = database


def isolate(database: Database) -> None:
    """Have a database follow only the transactions of threads that use it."""
    _shared.pop(id(database), None)
    thread.context.forget(database)


class _AllThreads:
    """Attends to all shared databases for a thread that begins a transaction."""

    def newTransaction(self, _transaction: Any) -> None:
        """Follow what this thread may be using; `transaction` calls this."""
        for reference in _shared.valuerefs():
            database = reference()
            if database is not None and not database.closed:
                thread.context.attend(database, touched=False)

    def beforeCompletion(self, _transaction: Any) -> None:
        """Do nothing; `transaction` calls this."""

    def afterCompletion(self, _transaction: Any) -> None:
        """Do nothing; `transaction` calls this."""


_all_threads = _AllThreads()


class _Manager(ThreadTransactionManager):  # type: ignore[misc]  # it has no types
    """`transaction.manager`, which lets `_all_threads` know of every thread's transactions.

    A `threading.local` is initialised again by each thread that uses it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.manager.registerSynch(_all_threads)


if type(transaction.manager) is ThreadTransactionManager:
    # Threads that have used it before attend when they use a database.
    transaction.manager.__class__ = _Manager
    transaction.manager.registerSynch(_all_threads)
