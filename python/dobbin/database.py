"""The database."""

from __future__ import annotations

import importlib
import os
import threading
import weakref
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import transaction

from dobbin._checkouts import is_checked_out, thread
from dobbin._classes import (
    PersistentType,
    is_ghost,
    is_persistent,
    set_attributes,
    set_class,
    transitions,
    variants,
)
from dobbin._copying import IDENTITY, compact, take_snapshot
from dobbin._loaded import Loaded
from dobbin._participants import Connected, participant_for
from dobbin._pickling import Writer, load_state
from dobbin._slots import ITEMS, JAR, OID, SERIAL
from dobbin._streams import PersistentStream
from dobbin.exc import IntegrityError, InvalidObjectReference
from dobbin.persistent import Broken, Persistent, fresh
from zc.zrs import _zrs

if TYPE_CHECKING:
    import datetime as dt
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
    ) -> None:
        self.closed = False
        self._sync = sync
        self._log = self._open_log(path)
        self.path = os.fspath(self._log.path)
        self._lost: Exception | None = None  # why a forked child does not have the file
        self._looking = threading.RLock()  # who looks for changes, until they are applied
        self._objects: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self._loaded = Loaded(memory_limit)
        self._root: Persistent | None = None
        self._foreign: dict[int, int] = {}
        self._names: dict[PersistentType, tuple[str, str]] = {}
        self._threads = threading.local()
        self._attend()
        _databases.add(self)

    def _open_log(
        self, path: str | os.PathLike[str], *, existing: bool = False
    ) -> _zrs.ObjectLog:
        identity = os.urandom(IDENTITY)
        return _zrs.ObjectLog(path, identity=identity, existing=existing, sync=self._sync)

    # --- Transactions

    def _attend(self) -> None:
        """Have this thread's transactions told to us when they begin."""
        if not getattr(self._threads, "attending", False):
            self._threads.attending = True
            transaction.manager.registerSynch(self)

    def newTransaction(self, _transaction: Any) -> None:
        """Catch up with what others have committed; `transaction` calls this."""
        if not self.closed:
            self._catch_up()
            self._loaded.shrink(self._let_go)

    def beforeCompletion(self, _transaction: Any) -> None:
        """Do nothing; `transaction` calls this."""

    def afterCompletion(self, _transaction: Any) -> None:
        """Do nothing; `transaction` calls this."""

    def _join(self) -> Connected:
        self._check_open()
        self._attend()
        return Connected(self)

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
        for oid in oids:
            obj: Any = self._objects.get(oid)
            # What a compaction has removed keeps its state, which is nowhere else.
            if not is_persistent(obj) or not self._log.has(oid):
                continue
            with transitions:
                checked_out = is_checked_out(obj)
                if not checked_out:
                    self._let_go(obj)
            if checked_out:
                self._load(obj, again=True)
                self._foreign[oid] = obj._p_serial or 0
        if root:
            self._root = None

    def _is_foreign(self, obj: Persistent) -> bool:
        """Whether another instance committed the object last."""
        return obj._p_oid in self._foreign and self._foreign[obj._p_oid] == obj._p_serial

    def _publish(self, writer: Writer, number: int, elected: Persistent | None) -> None:
        """Let all threads see what was written; `elected` is the new root, if there is one."""
        for file, oid in writer.files:
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
                self._loaded.note(obj, size)
            if elected is not None:
                self._root = elected

    @staticmethod
    def _set_state(
        obj: Persistent, attributes: dict[str, Any], items: dict[Any, Any] | None
    ) -> None:
        if items is not None and variants(type(obj)).has_items:
            ITEMS.__set__(obj, items)
        set_attributes(obj, attributes)

    # --- Objects

    def _load(self, obj: Persistent, *, again: bool = False) -> None:
        """Bring the state of a ghost to memory, or what others made of another object."""
        oid = OID.__get__(obj)
        while True:
            self._check_open()
            serial, pickles = self._log.load(oid)
            _, attributes, items = load_state(pickles, self)
            with transitions:
                ghost = is_ghost(obj)
                if not ghost and not again:
                    return
                # Somebody may have committed in the meantime.
                if self._log.serial(oid) != serial:
                    continue
                self._set_state(obj, attributes, items)
                SERIAL.__set__(obj, serial)
                if ghost:
                    set_class(obj, variants(type(obj)).shared)
                self._loaded.note(obj, sum(map(len, pickles)))
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
        participant = thread.participants.get(self)
        if participant is not None and participant.root is not None:
            return participant.root
        root = self._root
        while root is None and (oid := self._log.root) is not None:
            found = self.get(oid)
            with transitions:
                # The log knows of another root before `_root` is set to it.
                if self._log.root == oid:
                    root = self._root = found
        return root

    def elect(self, obj: Persistent) -> None:
        """Make an object the root when the transaction is committed."""
        self.add(obj)
        self._participant().root = obj

    def add(self, obj: Persistent) -> None:
        """Store an object when the transaction is committed, whether referred to or not."""
        if not is_persistent(obj):
            raise TypeError(f"not a persistent object: {obj!r}")
        if obj._p_jar is not None:
            if obj._p_jar is not self:
                raise InvalidObjectReference(f"{obj!r} belongs to another database")
            return
        participant = self._participant()
        with transitions:
            JAR.__set__(obj, self)
        participant.added.append(obj)
        checkout = thread.checkouts.get(id(obj))
        if checkout is not None:
            checkout.participant = participant

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

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until others have committed something, which the next transaction will see.

        Return whether they have; False after `timeout` seconds. On Linux the system tells of
        it; elsewhere, and of other machines' commits, looks at the file do.
        """
        return self._log.wait(timeout)

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

    def __copy__(self) -> Database:
        """Return a second instance, with objects of its own."""
        Path(self.path).stat()  # a file that is gone must not be made again
        limit = self._loaded.limit
        return type(self)(self.path, sync=self._sync, memory_limit=limit)

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


def _after_fork() -> None:
    for database in list(_databases):
        database._after_fork()


os.register_at_fork(after_in_child=_after_fork)
