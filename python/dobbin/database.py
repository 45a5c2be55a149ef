"""The database."""

from __future__ import annotations

import importlib
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import transaction

from dobbin._checkouts import take_over
from dobbin._classes import is_persistent
from dobbin._contexts import (
    Synchronizer,
    checkout_of,
    context_for,
    context_of,
    isolate,
    share,
)
from dobbin._copying import compact, take_snapshot
from dobbin._participants import StoreParticipant, participant_for
from dobbin._store import Options, Store
from dobbin._streams import PersistentStream
from dobbin.exc import ConflictError, InvalidObjectReference, RootExistsError
from dobbin.persistent import Broken, Persistent, PersistentDict

if TYPE_CHECKING:
    import datetime as dt
    import os
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Database", "PersistentStream"]


class Database:
    """The objects in a file, which other threads and processes may use at the same time.

    `sync` is ``"commit"``, so that a commit is durable when it returns, or ``"none"``, so that
    a power failure may lose the last ones. `memory_limit` is in bytes of pickles: when more
    are loaded, the states that were loaded first are unloaded at the end of transactions.

    `path` is resolved when the database is opened: it becomes absolute, without symbolic
    links. Changing the working directory or a link later has no effect.

    `transaction_manager` provides the transactions in which objects are changed. It is a
    `transaction.TransactionManager`, or a function without arguments that returns the manager
    to use at the moment, for example that of the current request or task. The default is
    `transaction.manager`, which has a transaction for each thread. Threads that share an
    instance see the same state; see `isolated_view`.

    With `debug`, objects that were changed in place without a checkout are detected at the end
    of a transaction: `transaction.commit` raises `UnnoticedChangeError`. This takes time and
    memory in proportion to the number of loaded objects.

    Raises `IntegrityError` if the file is not a database, or is shorter than its index shows
    it was when it was durable, and `OSError`. Damaged objects raise `IntegrityError` when they
    are used; `damaged` lists the damage that was found when the file was read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sync: Literal["commit", "none"] = "commit",
        memory_limit: int | None = None,
        transaction_manager: Any = None,
        debug: bool = False,
    ) -> None:
        options = Options(sync, memory_limit, transaction_manager, debug)
        self._p_store = Store(self, path, options, broken=Broken)
        self.path = self._p_store.path
        if self._p_store.is_shared:
            share(self._p_store)
        if not callable(transaction_manager):
            self._synchronize()

    # --- Transactions

    def _synchronize(self) -> Synchronizer:
        """Follow the transactions of the current context."""
        return context_for(self._p_store).synchronize(self._p_store)

    def _participant(self) -> StoreParticipant:
        return cast("StoreParticipant", participant_for(self._p_store))

    # --- Objects

    def find_class(self, module: str, name: str) -> Any:
        """Return the class or function of a name in a pickle; to be overridden.

        Raises `ImportError` or `AttributeError`. The result is called with arguments from the
        file: a database is as trusted as code.
        """
        return reduce(getattr, name.split("."), importlib.import_module(module))

    def get(self, oid: int) -> Any:
        """Return the object with this number; raise `KeyError` if it does not exist."""
        self._p_store.check_open()
        self._synchronize()
        return self._p_store.get(oid)

    @property
    def root(self) -> Any:
        """The root object, None until one is elected."""
        self._p_store.check_open()
        self._synchronize()
        participant = context_for(self._p_store).participants.get(self._p_store)
        if isinstance(participant, StoreParticipant) and participant.root is not None:
            return participant.root
        return self._p_store.root()

    def elect(self, obj: Persistent, *, replace: bool = False) -> None:
        """Make an object the root when the transaction is committed.

        Raises `RootExistsError` if another object is the root, unless `replace` is true. If
        another root was elected since the transaction began, this or the commit raises
        `ConflictError`.
        """
        self._p_store.check_open()
        present = self._p_store.log.root
        others = is_persistent(obj) and present not in (None, obj._p_oid)
        if others and not replace:
            if self._synchronize().root != present:
                raise self._p_store.root_conflict()
            raise RootExistsError(
                f"{self.path} has a root; elect(..., replace=True) replaces it, and "
                "ensure_root() returns it"
            )
        self.add(obj)
        self._participant().root = obj

    def ensure_root(self, make: Callable[[], Persistent] = PersistentDict) -> Any:
        """Return the root object. If the database has no root, make one and commit it first.

        `make` returns the new root, possibly with objects that it refers to. The root is
        committed in a transaction of its own: changes of the current transaction are not
        committed with it, and it is visible to all at once. Any number of threads and
        processes may call this at the same time; all get the same root.
        """
        store = self._p_store
        while (root := self.root) is None:
            manager = transaction.TransactionManager(explicit=True)
            manager.begin()
            participant = StoreParticipant(store, context_of(manager), None)
            try:
                participant.root = new = make()
                self._add(new, participant)
                manager.commit()
                self._synchronize().revision += 1
            except ConflictError:
                manager.abort()
                store.catch_up()
            except BaseException:
                manager.abort()
                raise
            self._synchronize().root = store.root_oid
        return root

    def add(self, obj: Persistent) -> None:
        """Store an object when the transaction is committed, even if nothing refers to it."""
        if not is_persistent(obj):
            raise TypeError(f"not a persistent object: {obj!r}")
        if obj._p_jar is None:
            self._add(obj, self._participant())
        elif obj._p_jar is not self:
            raise InvalidObjectReference(f"{obj!r} belongs to another database")

    def _add(self, obj: Persistent, participant: StoreParticipant) -> None:
        checkout = checkout_of(obj)
        self._p_store.connect(obj)
        participant.added.append(obj)
        if checkout is not None:
            take_over(checkout, participant)

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self._p_store.log)

    def __bool__(self) -> bool:
        return True

    @property
    def tx_count(self) -> int:
        """The number of transactions that were written, including failed ones."""
        return self._p_store.log.number

    @property
    def damaged(self) -> list[str]:
        """Descriptions of the damage found so far, with offsets and transactions."""
        return self._p_store.log.damaged

    # --- The file

    @property
    def closed(self) -> bool:
        """Whether the database is closed."""
        return self._p_store.closed

    def wait(self, timeout: float | None = None, *, since: int | None = None) -> bool:
        """Wait until something was committed that the current transaction has not seen.

        This is anything that another thread, instance or process has committed since this
        thread's transaction began; transactions committed by this thread do not count. With
        `since`, an earlier `tx_count` of this instance, wait for any transaction after that
        one instead. The next transaction sees what was waited for.

        Return whether there is such a transaction; False after `timeout` seconds. On Linux
        the system reports changes of the file. On other systems, and for commits of other
        machines, the file is checked at short intervals. Raises `ValueError` if `since` is
        more than `tx_count`.
        """
        store = self._p_store
        store.check_open()
        synchronizer = self._synchronize()
        if since is None:
            return store.log.wait(timeout, lambda: store.revision > synchronizer.revision)
        if since > store.log.number:
            raise ValueError(f"since={since} is more than tx_count, {store.log.number}")
        return store.log.wait(timeout, lambda: store.committed > since)

    def snapshot(self, target: Database, timestamp: float | dt.datetime | None = None) -> None:
        """Write the current objects, or those of an earlier time, into an empty database.

        The target receives them in one transaction. `timestamp` is in seconds since 1970; the
        snapshot includes the last transaction at or before that time, and all before it.
        Raises `ValueError` if the target is not empty, or if a compaction has removed the state
        of that time.
        """
        take_snapshot(self._p_store, target._p_store, timestamp)

    def compact(self, *, unreachable: bool = True) -> tuple[int, int]:
        """Rewrite the file without old states; return its length before and after, in bytes.

        Afterwards this instance sees what others have committed. Others can read during the
        compaction; commits wait. The changes of an object become one record if the classes of
        its values can be found. With `unreachable` false, objects and streams that cannot be
        reached from the root are left out; nothing can refer to them again, but copies of them
        can be stored.

        The new file has the owner and permissions of the old one. Raises `IntegrityError` if
        a current object cannot be read. Raises `OSError` if the owner or group cannot be kept
        and users of the old file could not use the new one. The file is then unchanged.
        """
        return compact(self._p_store, reachable=not unreachable)

    def close(self) -> None:
        """Close the file. Objects whose states are in memory can still be read.

        If the index cannot be saved, that is logged. Raises `OSError` if a sync failed.
        """
        self._p_store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def isolated_view(self, *, transaction_manager: Any = None) -> Self:
        """Return an instance of the same file that transactions of others do not move.

        It has its own objects. It shows the state of the moment at which its transaction
        manager, by default that of the thread that uses it, began a transaction. One thread or
        task may use it at a time. Opening a view takes about as long as opening the database,
        and it keeps its own copies of the objects that are loaded. Close it after use.
        """
        options = self._p_store.options
        if transaction_manager is not None:
            options = options._replace(transaction_manager=transaction_manager)
        Path(self.path).stat()  # a removed file must not be created again
        view = type(self)(self.path, **options._asdict())
        if view._p_store.is_shared:
            isolate(view._p_store)
        return view

    def __copy__(self) -> Self:
        """Return an isolated view."""
        return self.isolated_view()
