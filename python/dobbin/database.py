"""The database."""

from __future__ import annotations

import importlib
import os
import threading
import weakref
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast

import transaction

from dobbin._checkouts import is_checked_out, take_over
from dobbin._classes import (
    PersistentType,
    attributes_of,
    is_ghost,
    is_persistent,
    persistent_part,
    set_attributes,
    set_class,
    transitions,
    variants,
)
from dobbin._contexts import (
    Attendance,
    Context,
    checkout_of,
    context_of,
    isolate,
    share,
    thread,
)
from dobbin._copying import IDENTITY, compact, take_snapshot
from dobbin._loaded import Loaded
from dobbin._participants import Connected, participant_for
from dobbin._pickling import Writer, load_state
from dobbin._slots import ITEMS, JAR, OID, SERIAL, items_of
from dobbin._streams import PersistentStream
from dobbin._unnoticed import Watcher
from dobbin.exc import (
    ConflictError,
    IntegrityError,
    InvalidObjectReference,
    ReadConflictError,
    RootExistsError,
    WriteConflictError,
)
from dobbin.persistent import Broken, Persistent, PersistentDict, fresh
from zc.zrs import _zrs

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Database", "PersistentStream"]

_databases: weakref.WeakSet[Database] = weakref.WeakSet()


class Database:
    """The objects in a file, which other threads and processes may use at the same time.

    `sync` is ``"commit"``, so that a commit is durable when it returns, or ``"none"``, so
    that a power cut may take the last ones. With a `memory_limit`, in bytes of pickles, the
    states of objects that were loaded first are let go at the end of transactions.

    `path` is what the path means when the database is opened: absolute, without symbolic
    links. Changing the working directory or a link later has no effect.

    `transaction_manager` has the transactions in which objects are changed: a
    `transaction.TransactionManager`, or a function without arguments that returns the one to
    use at the moment, for example that of the present request or task. By default it is
    `transaction.manager`, which has a transaction for each thread. Threads that share an
    instance share what it sees; see `isolated_view`.

    With `debug`, objects that were changed in place without a checkout are found when a
    transaction ends: `transaction.commit` raises `UnnoticedChangeError`. This takes time and
    memory in proportion to the objects that are loaded.

    Raises `IntegrityError` if the file is no database, or is shorter than its index says it was
    when it was durable, and `OSError`. Damaged objects raise
    `IntegrityError` when they are used; `damaged` lists what was found when the file was
    read.
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
        self.closed = False
        self._sync = sync
        self._manager = transaction_manager
        self._has_own_manager = transaction_manager not in (None, transaction.manager)
        self._log = self._open_log(path)
        self.path = os.fspath(self._log.path)
        self._lost: Exception | None = None  # why a forked child does not have the file
        # Held by a thread that looks for changes until the objects show them.
        # Lock order: the log's commit lock, this, `transitions`.
        self._looking = threading.RLock()
        self._objects: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self._loaded = Loaded(memory_limit)
        self._watcher = Watcher() if debug else None
        self._root: Persistent | None = None
        self._root_oid: int | None = self._log.root
        self._root_is_foreign = False
        self._revision = 0  # grows with each visible change
        self._committed = self._log.number  # the last transaction that is visible
        self._foreign: dict[int, int] = {}
        # The states that others replaced last, until the objects are loaded again: what only
        # these refer to is mostly what the new ones refer to, and is to stay in memory.
        self._replaced: dict[int, Any] = {}
        self._names: dict[PersistentType, tuple[str, str]] = {}
        self._is_shared = not self._has_own_manager
        if self._is_shared:
            share(self)
        if not callable(transaction_manager):
            self._attend()
        _databases.add(self)

    def _open_log(
        self, path: str | os.PathLike[str], *, existing: bool = False
    ) -> _zrs.ObjectLog:
        identity = os.urandom(IDENTITY)
        return _zrs.ObjectLog(path, identity=identity, existing=existing, sync=self._sync)

    # --- Transactions

    def _context(self) -> Context:
        """Return the context whose checkouts are seen and made here."""
        if not self._has_own_manager:
            return thread.context
        return context_of(self._manager() if callable(self._manager) else self._manager)

    def _attend(self) -> Attendance:
        """Follow the transactions of the present context."""
        return self._context().attend(self)

    def _begin_to_see(self) -> tuple[int | None, int]:
        """Catch up with what others have committed, for a transaction that begins."""
        self._find_unnoticed_changes()
        with self._looking:
            self._catch_up()
            self._loaded.shrink(self._let_go)
            return self._seen()

    def _seen(self) -> tuple[int | None, int]:
        return self._root_oid, self._revision

    def _find_unnoticed_changes(self) -> None:
        if self._watcher is not None:
            self._watcher.check(self._let_go)

    def _join(self, context: Context) -> Connected:
        self._check_open()
        return Connected(self, context, context.attend(self).root)

    def _participant(self) -> Connected:
        return cast("Connected", participant_for(self))

    def _check_open(self) -> None:
        if self._lost is not None:
            raise ValueError(f"the file could not be opened after a fork: {self._lost}")
        if self.closed:
            raise ValueError("the database is closed")

    def _catch_up(self) -> None:
        with self._looking:
            oids, root, _ = self._log.catch_up()
            self._apply(oids, root=root)

    def _begin(self, microseconds: int) -> None:
        with self._looking:
            oids, root, _ = self._log.begin(microseconds)
            self._apply(oids, root=root)

    def _apply(self, oids: list[int], *, root: bool) -> None:
        """Let go what others have changed."""
        replaced: dict[int, Any] = {}
        for oid in oids:
            obj: Any = self._objects.get(oid)
            # What a compaction has removed keeps its state, which is nowhere else.
            if not is_persistent(obj) or not self._log.has(oid):
                continue
            with transitions:
                checked_out = is_checked_out(obj)
                if not checked_out:
                    replaced[oid] = attributes_of(obj), items_of(obj)
                    self._let_go(obj)
            if checked_out:
                self._load(obj, again=True)
                self._foreign[oid] = obj._p_serial or 0
        if root:
            self._forget_root(foreign=True)
        if oids or root:
            self._replaced = replaced if self._loaded.limit is None else {}
            self._revision += 1
            self._committed = self._log.number

    def _forget_root(self, *, foreign: bool) -> None:
        # Not between another thread's look-up of the root and its assignment.
        with transitions:
            self._root = None
            self._root_oid = self._log.root
            self._root_is_foreign = foreign

    def _raise_root_conflict(self) -> NoReturn:
        kind = ReadConflictError if self._root_is_foreign else WriteConflictError
        raise kind(*([] if self._root_oid is None else [self.get(self._root_oid)]))

    def _is_foreign(self, obj: Persistent) -> bool:
        """Whether another instance committed the object last."""
        return obj._p_oid in self._foreign and self._foreign[obj._p_oid] == obj._p_serial

    def _publish(self, writer: Writer, number: int, context: Context) -> None:
        """Let all threads see what was written."""
        for file, oid in writer.files:
            file.release()
            file.__dict__.clear()
            file.__class__ = PersistentStream  # type: ignore[assignment]
            PersistentStream.__init__(file, self, oid)  # type: ignore[arg-type]
        with transitions:
            for obj, oid, attributes, items, size in writer.written:
                self._set_state(obj, attributes, items)
                if OID.__get__(obj) is None:
                    JAR.__set__(obj, self)
                    OID.__set__(obj, oid)
                    self._objects[oid] = obj
                SERIAL.__set__(obj, number)
                self._foreign.pop(oid, None)
                self._note(obj, size)
        self._show_transaction(number, elects=writer.elects)
        # The context knows of its own changes, not of those that were made since it began.
        attendance = context.attendance(self)
        if attendance is not None:
            attendance.revision += 1

    def _show_transaction(self, number: int, *, elects: bool) -> None:
        """Let all threads see that there is a transaction, and maybe another root."""
        if elects:
            self._forget_root(foreign=False)
        self._revision += 1
        self._committed = number

    def _note(self, obj: Persistent, size: int) -> None:
        """Take in an object whose state has come to memory, under `transitions`."""
        self._loaded.note(obj, size)
        if self._watcher is not None:
            self._watcher.note(obj)

    @staticmethod
    def _set_state(
        obj: Persistent, attributes: dict[str, Any], items: dict[Any, Any] | None
    ) -> None:
        if variants(type(obj)).has_items:
            ITEMS.__set__(obj, {} if items is None else items)
        set_attributes(obj, attributes)

    # --- Objects

    def _load(self, obj: Persistent, *, again: bool = False) -> None:
        """Bring the state of a ghost to memory, or what others made of another object."""
        oid = OID.__get__(obj)
        while True:
            self._check_open()
            serial, pickles = self._log.load(oid)
            name, attributes, items = load_state(pickles, self)
            known = variants(type(obj))
            if items and not known.has_items:
                raise TypeError(
                    f"{self.path}: object {oid} is a dictionary of {len(items)} items, but its "
                    f"class {'.'.join(name)} is not a PersistentDict any more; to read it, let "
                    "the class be one, or have find_class return one"
                )
            attributes = persistent_part(known, attributes)
            with transitions:
                ghost = is_ghost(obj)
                if not ghost and not again:
                    return
                # Somebody may have committed in the meantime.
                if self._log.serial(oid) != serial:
                    continue
                self._set_state(obj, attributes, items)
                SERIAL.__set__(obj, serial)
                self._replaced.pop(oid, None)
                if ghost:
                    set_class(obj, variants(type(obj)).shared)
                self._note(obj, sum(map(len, pickles)))
                return

    def _let_go(self, obj: Persistent) -> bool:
        """Make a ghost of an object unless it is checked out; return whether it is one."""
        with transitions:
            if is_checked_out(obj) or JAR.__get__(obj) is not self:
                return False
            if not is_ghost(obj):
                set_class(obj, variants(type(obj)).ghost)
                self._set_state(obj, {}, {})
            SERIAL.__set__(obj, None)
            return True

    def _referred(self, reference: Any) -> Any:
        """Return what a pickle refers to."""
        kind, oid, *name = reference
        with transitions:
            found = self._objects.get(oid)
            if found is None:
                found = self._ghost(oid, *name) if kind == "o" else PersistentStream(self, oid)
                self._objects[oid] = found
        return found

    def _ghost(self, oid: int, module: str, name: str) -> Persistent:
        obj: Persistent = fresh(variants(self._class(module, name)).ghost)
        JAR.__set__(obj, self)
        OID.__set__(obj, oid)
        return obj

    def _class(self, module: str, name: str) -> PersistentType:
        try:
            found = self.find_class(module, name)
        except (ImportError, AttributeError):
            found = None
        if isinstance(found, PersistentType):
            return found
        broken = PersistentType(name, (Broken,), {"__slots__": (), "__module__": module})
        broken.__qualname__ = name
        self._names[broken] = module, name
        return broken

    def find_class(self, module: str, name: str) -> Any:
        """Return the class or function of a name in a pickle; to be overridden.

        Raises `ImportError` or `AttributeError`. What is returned is called with what the
        file says: a database is as trusted as code.
        """
        return reduce(getattr, name.split("."), importlib.import_module(module))

    def _name_of(self, cls: PersistentType) -> tuple[str, str]:
        """Return a class's module and name, from which it can be found again."""
        name = self._names.get(cls)
        if name is None:
            name = cls.__module__, cls.__qualname__
            if self._class(*name) is not cls:
                raise TypeError(f"cannot store objects of {cls!r}: it is not found as {name}")
            self._names[cls] = name
        return name

    def get(self, oid: int) -> Any:
        """Return the object with a number, raise `KeyError` if there is none."""
        self._check_open()
        self._attend()
        found = self._objects.get(oid)
        if is_persistent(found):
            return found
        _, pickles = self._log.load(oid)
        name, _, _ = load_state(pickles, self)
        return self._referred(("o", oid, *name))

    @property
    def root(self) -> Any:
        """The root object, None until one is elected."""
        self._check_open()
        self._attend()
        participant = self._context().participants.get(self)
        if isinstance(participant, Connected) and participant.root is not None:
            return participant.root
        root = self._root
        while root is None and (oid := self._log.root) is not None:
            found = self.get(oid)
            with transitions:
                # The log knows of another root before `_root` is set to it.
                if self._log.root == oid:
                    root = self._root = found
        return root

    def elect(self, obj: Persistent, *, replace: bool = False) -> None:
        """Make an object the root when the transaction is committed.

        Raises `RootExistsError` if another object is the root, unless it is to be replaced.
        If another root was elected since the transaction began, this or the commit raises
        `ConflictError`.
        """
        self._check_open()
        present = self._log.root
        others = is_persistent(obj) and present not in (None, obj._p_oid)
        if others and not replace:
            if self._attend().root != present:
                self._raise_root_conflict()
            raise RootExistsError(
                f"{self.path} has a root; elect(..., replace=True) replaces it, and "
                "ensure_root() returns it"
            )
        self.add(obj)
        self._participant().root = obj

    def ensure_root(self, make: Callable[[], Persistent] = PersistentDict) -> Any:
        """Return the root object; if there is none, make one and commit it first.

        `make` returns the new root, maybe with objects that it refers to. It is committed in
        a transaction of its own, so what the present transaction has changed is not, and is
        visible to all at once. Any number of threads and processes may call this at the same
        time: all get the same root.
        """
        while (root := self.root) is None:
            manager = transaction.TransactionManager(explicit=True)
            manager.begin()
            participant = Connected(self, context_of(manager), None)
            try:
                participant.root = new = make()
                self._add(new, participant)
                manager.commit()
                self._attend().revision += 1
            except ConflictError:
                manager.abort()
                self._catch_up()
            except BaseException:
                manager.abort()
                raise
            self._attend().root = self._root_oid
        return root

    def add(self, obj: Persistent) -> None:
        """Store an object when the transaction is committed, whether referred to or not."""
        if not is_persistent(obj):
            raise TypeError(f"not a persistent object: {obj!r}")
        if obj._p_jar is None:
            self._add(obj, self._participant())
        elif obj._p_jar is not self:
            raise InvalidObjectReference(f"{obj!r} belongs to another database")

    def _add(self, obj: Persistent, participant: Connected) -> None:
        checkout = checkout_of(obj)
        with transitions:
            JAR.__set__(obj, self)
        participant.added.append(obj)
        if checkout is not None:
            take_over(checkout, participant)

    def _disown(self, obj: Persistent) -> None:
        with transitions:
            if OID.__get__(obj) is None:
                JAR.__set__(obj, None)

    def __len__(self) -> int:
        """Return how many objects there are."""
        return len(self._log)

    def __bool__(self) -> bool:
        return True

    @property
    def tx_count(self) -> int:
        """How many transactions were written, failed ones included."""
        return self._log.number

    @property
    def damaged(self) -> list[str]:
        """What is damaged, of what was read so far: offsets and transactions, in words."""
        return self._log.damaged

    # --- The file

    def wait(self, timeout: float | None = None, *, since: int | None = None) -> bool:
        """Wait until something was committed that the present transaction has not seen.

        That is what any other thread, instance or process has committed since this thread's
        transaction began; what the transactions of this thread have committed does not count.
        With `since`, a former `tx_count` of this instance, wait for any transaction after
        that one instead. The next transaction sees what was waited for.

        Return whether there is such a transaction; False after `timeout` seconds. On Linux
        the system tells of it; elsewhere, and of other machines' commits, looks at the file
        do. Raises `ValueError` if `since` is more than `tx_count`.
        """
        self._check_open()
        attendance = self._attend()
        if since is None:
            return self._log.wait(timeout, lambda: self._revision > attendance.revision)
        if since > self._log.number:
            raise ValueError(f"since={since} is more than tx_count, {self._log.number}")
        return self._log.wait(timeout, lambda: self._committed > since)

    def snapshot(self, target: Database, timestamp: float | dt.datetime | None = None) -> None:
        """Write the present objects, or those of a time, into an empty database.

        They are one transaction there. `timestamp` is in seconds since 1970; what counts is
        the last transaction with that time or an earlier one, and all before it.
        Raises `ValueError` if the target is not empty, or if a compaction has removed the state
        of that time.
        """
        take_snapshot(self, target, timestamp)

    def compact(self, *, unreachable: bool = True) -> tuple[int, int]:
        """Rewrite the file without old states; return how long it was and is, in bytes.

        What others have committed is seen afterwards. Others may go on reading; who commits
        waits. Changes of an object become one record where the classes of its values can be
        found. Without `unreachable`, objects and streams that cannot be reached from the root
        are left out; they cannot be referred to again, but copies of them can be stored.
        The new file has the owner and permissions of the old one. Raises `IntegrityError` if
        something of what there is cannot be read, `OSError` if the owner or group cannot be kept
        and the new file could not be used by them; the file is then as it was.
        """
        return compact(self, reachable=not unreachable)

    def close(self) -> None:
        """Close the file. Objects whose states are in memory can still be read.

        That the index could not be saved is logged. Raises `OSError` if a sync failed.
        """
        if not self.closed:
            if self._watcher is not None:
                self._watcher.log()
            self.closed = True
            self._log.close()

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
        """Return an instance of the same file that others' transactions do not move.

        It has objects of its own, and shows the state of one moment: that in which its
        transaction manager, by default the thread that uses it, has begun a transaction.
        It is for one thread or task at a time. Opening one takes about as long as opening
        the database; it keeps its own copies of the objects that are loaded. Close it.
        """
        Path(self.path).stat()  # a file that is gone must not be made again
        view = type(self)(
            self.path,
            sync=self._sync,
            memory_limit=self._loaded.limit,
            transaction_manager=self._manager
            if transaction_manager is None
            else transaction_manager,
            debug=self._watcher is not None,
        )
        if view._is_shared:
            view._is_shared = False
            isolate(view)
        return view

    def __copy__(self) -> Self:
        """Return an isolated view."""
        return self.isolated_view()

    def _after_fork(self) -> None:
        """Open the file for the child: it must not share the parent's lock, nor make a file."""
        self._looking = threading.RLock()
        if self.closed:
            return
        try:
            self._log = self._open_log(self.path, existing=True)
        except (OSError, IntegrityError) as error:
            self.closed, self._lost = True, error
            return
        self._apply(list(self._objects), root=True)
        self._replaced = {}


def _after_fork() -> None:
    for database in list(_databases):
        database._after_fork()


os.register_at_fork(after_in_child=_after_fork)
