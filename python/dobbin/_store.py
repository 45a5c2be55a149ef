"""The objects of a database in memory, and the log that keeps them.

A store is the part of a `dobbin.database.Database` that the other modules work with. It reads
and publishes transactions, and keeps objects, their classes and their states in agreement with
the last transaction that is visible. It must not depend on checkouts or on transactions in
progress; `_contexts` and `_participants` build these on top of it.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import transaction

from dobbin._classes import (
    PersistentType,
    attributes_of,
    fresh,
    is_ghost,
    is_persistent,
    persistent_part,
    set_attributes,
    set_class,
    transitions,
    variants,
)
from dobbin._loaded import Loaded
from dobbin._pickling import load_state
from dobbin._slots import (
    ITEMS,
    JAR,
    OID,
    SERIAL,
    Slots,
    is_checked_out,
    items_of,
    store_of,
)
from dobbin._streams import PersistentStream
from dobbin._unnoticed import Watcher
from dobbin.exc import ConflictError, IntegrityError, ReadConflictError, WriteConflictError
from zc.zrs import _zrs

if TYPE_CHECKING:
    from dobbin._files import PersistentFile

IDENTITY = 16  # bytes

_stores: weakref.WeakSet[Store] = weakref.WeakSet()


class Jar(Protocol):
    """The database that `_p_jar` of an object refers to."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the class or function of a name in a pickle."""


class Options(NamedTuple):
    """The options of a `dobbin.database.Database`, by the names of its parameters."""

    sync: Literal["commit", "none"]
    memory_limit: int | None
    transaction_manager: Any
    debug: bool


# An object that a transaction has written: with its oid, its new shared attributes and items, and
# the length of its pickle in bytes. A plain tuple, because a commit makes one for each object.
WrittenObject: TypeAlias = "tuple[Slots, int, dict[str, Any], dict[Any, Any] | None, int]"


class Store:
    """The log and the objects of one database.

    `broken` is the base class of objects whose class cannot be found. `log` is the open file. A
    thread holds `visibility` from before it reads or finishes a transaction until its objects
    are visible. Lock order: the log's commit lock, `visibility`, `transitions`.

    `revision` grows with each visible change, and `committed` is the last visible transaction.
    `is_shared` is true while the store follows the transactions of all threads. `lost` is the
    exception that kept a forked child from opening the file.
    """

    def __init__(
        self,
        jar: Jar,
        path: str | os.PathLike[str],
        options: Options,
        *,
        broken: PersistentType,
    ) -> None:
        self.closed = False
        self.options = options
        self.manager = options.transaction_manager
        self.has_own_manager = self.manager not in (None, transaction.manager)
        self.is_shared = not self.has_own_manager
        self.log = self._open_log(path)
        self.path = os.fspath(self.log.path)
        self.lost: Exception | None = None
        self.visibility = threading.RLock()
        self.loaded = Loaded(options.memory_limit)
        self.watcher = Watcher() if options.debug else None
        self.root_oid: int | None = self.log.root
        self.revision = 0
        self.committed = self.log.number
        # The database refers to the store. It exists whenever it is needed here: an operation
        # that makes objects begins with the database or with one of its objects.
        self._jar = weakref.ref(jar)
        self._broken = broken
        self._objects: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self._root: Any = None
        self._root_is_foreign = False
        self._foreign: dict[int, int] = {}
        # The states that others replaced last, until the objects are loaded again. They keep
        # in memory what only they refer to, because the new states mostly refer to it too.
        self._replaced: dict[int, Any] = {}
        self._names: dict[PersistentType, tuple[str, str]] = {}
        _stores.add(self)

    def _open_log(
        self, path: str | os.PathLike[str], *, existing: bool = False
    ) -> _zrs.ObjectLog:
        identity = os.urandom(IDENTITY)
        return _zrs.ObjectLog(
            path, identity=identity, existing=existing, sync=self.options.sync
        )

    def check_open(self) -> None:
        """Raise `ValueError` if the database is closed."""
        if self.lost is not None:
            raise ValueError(f"the file could not be opened after a fork: {self.lost}")
        if self.closed:
            raise ValueError("the database is closed")

    def close(self) -> None:
        """Close the file unless it is closed."""
        if not self.closed:
            if self.watcher is not None:
                self.watcher.log()
            self.closed = True
            self.log.close()

    def find_unnoticed_changes(self) -> None:
        """With `debug`, raise `UnnoticedChangeError` if a shared state was changed in place."""
        if self.watcher is not None:
            self.watcher.check(self.unload)

    # --- Transactions of others

    def refresh(self) -> tuple[int | None, int]:
        """Catch up with others for a transaction that begins; return what `seen` returns."""
        self.find_unnoticed_changes()
        with self.visibility:
            self.catch_up()
            self.loaded.shrink(self.unload)
            return self.seen()

    def seen(self) -> tuple[int | None, int]:
        """Return the root's oid and the revision."""
        return self.root_oid, self.revision

    def catch_up(self) -> None:
        """Read the transactions that others have committed."""
        with self.visibility:
            oids, root, _ = self.log.catch_up()
            self._apply(oids, root=root)

    def begin(self, microseconds: int) -> None:
        """Begin a transaction in the log, after those of others."""
        with self.visibility:
            oids, root, _ = self.log.begin(microseconds)
            self._apply(oids, root=root)

    def _apply(self, oids: list[int], *, root: bool) -> None:
        """Unload the objects that others have changed; load those that are checked out."""
        replaced: dict[int, Any] = {}
        for oid in oids:
            obj: Any = self._objects.get(oid)
            # An object that a compaction has removed keeps its state, which is nowhere else.
            if not is_persistent(obj) or not self.log.has(oid):
                continue
            with transitions:
                checked_out = is_checked_out(obj)
                if not checked_out:
                    replaced[oid] = attributes_of(obj), items_of(obj)
                    self.unload(obj)
            if checked_out:
                self.load(obj, again=True)
                self._foreign[oid] = obj._p_serial or 0
        if root:
            self._forget_root(foreign=True)
        if oids or root:
            self._replaced = replaced if self.options.memory_limit is None else {}
            self.revision += 1
            self.committed = self.log.number

    def is_foreign(self, obj: Slots) -> bool:
        """Whether another instance committed the object last."""
        return obj._p_oid in self._foreign and self._foreign[obj._p_oid] == obj._p_serial

    # --- Own transactions

    def publish(
        self,
        written: list[WrittenObject],
        files: list[tuple[PersistentFile, int]],
        number: int,
        *,
        elects: bool,
    ) -> None:
        """Make a finished transaction visible to all threads, with the objects it wrote.

        `files` are the persistent files that it stored, with the oids of the streams that they
        become. `elects` is true if it set another root.
        """
        for file, oid in files:
            file.release()
            file.__dict__.clear()
            file.__class__ = PersistentStream  # type: ignore[assignment]
            PersistentStream.__init__(file, self, oid)  # type: ignore[arg-type]
        with transitions:
            for obj, oid, attributes, items, size in written:
                self._set_state(obj, attributes, items)
                if OID.__get__(obj) is None:
                    JAR.__set__(obj, self._jar())
                    OID.__set__(obj, oid)
                    self._objects[oid] = obj
                SERIAL.__set__(obj, number)
                self._foreign.pop(oid, None)
                self._note_loaded(obj, size)
        self.publish_number(number, elects=elects)

    def publish_number(self, number: int, *, elects: bool) -> None:
        """Make a finished transaction visible that wrote no objects which are in memory."""
        if elects:
            self._forget_root(foreign=False)
        self.revision += 1
        self.committed = number

    def connect(self, obj: Slots) -> None:
        """Put an object into the database."""
        with transitions:
            JAR.__set__(obj, self._jar())

    def disconnect(self, obj: Slots) -> None:
        """Take an object that was not committed out of the database."""
        with transitions:
            if OID.__get__(obj) is None:
                JAR.__set__(obj, None)

    # --- The root

    def root(self) -> Any:
        """Return the committed root object, or None before a root is committed."""
        root = self._root
        while root is None and (oid := self.log.root) is not None:
            found = self.get(oid)
            with transitions:
                # The log has another root before `_root` is set to it.
                if self.log.root == oid:
                    root = self._root = found
        return root

    def _forget_root(self, *, foreign: bool) -> None:
        # Must not happen between another thread's lookup of the root and its assignment.
        with transitions:
            self._root = None
            self.root_oid = self.log.root
            self._root_is_foreign = foreign

    def root_conflict(self) -> ConflictError:
        """Return the error for a transaction that depends on a root that was replaced."""
        kind = ReadConflictError if self._root_is_foreign else WriteConflictError
        return kind(*([] if self.root_oid is None else [self.get(self.root_oid)]))

    # --- Objects

    def get(self, oid: int) -> Any:
        """Return the object with this number; raise `KeyError` if it does not exist."""
        found = self._objects.get(oid)
        if is_persistent(found):
            return found
        _, pickles = self.log.load(oid)
        name, _, _ = load_state(pickles, self)
        return self.resolve_reference(("o", oid, *name))

    def load(self, obj: Slots, *, again: bool = False) -> None:
        """Load the state of a ghost; with `again`, also that of another object."""
        oid = OID.__get__(obj)
        while True:
            self.check_open()
            serial, pickles = self.log.load(oid)
            name, attributes, items = load_state(pickles, self)
            known = variants(type(obj))
            if items and not known.has_items:
                raise TypeError(
                    f"{self.path}: object {oid} is a dictionary of {len(items)} items,"
                    f" but its class {'.'.join(name)} is no longer a PersistentDict; to"
                    " read it, make the class a PersistentDict, or have find_class"
                    " return one"
                )
            attributes = persistent_part(known, attributes)
            with transitions:
                ghost = is_ghost(obj)
                if not ghost and not again:
                    return
                # Another thread may have committed in the meantime.
                if self.log.serial(oid) != serial:
                    continue
                self._set_state(obj, attributes, items)
                SERIAL.__set__(obj, serial)
                self._replaced.pop(oid, None)
                if ghost:
                    set_class(obj, variants(type(obj)).shared)
                self._note_loaded(obj, sum(map(len, pickles)))
                return

    def unload(self, obj: Slots) -> bool:
        """Make an object a ghost unless it is checked out; return whether it is one."""
        with transitions:
            if is_checked_out(obj) or store_of(obj) is not self:
                return False
            if not is_ghost(obj):
                set_class(obj, variants(type(obj)).ghost)
                self._set_state(obj, {}, {})
            SERIAL.__set__(obj, None)
            return True

    @staticmethod
    def _set_state(
        obj: Slots, attributes: dict[str, Any], items: dict[Any, Any] | None
    ) -> None:
        if variants(type(obj)).has_items:
            ITEMS.__set__(obj, {} if items is None else items)
        set_attributes(obj, attributes)

    def _note_loaded(self, obj: Slots, size: int) -> None:
        """Note that the state of an object is in memory; called under `transitions`."""
        self.loaded.note(obj, size)
        if self.watcher is not None:
            self.watcher.note(obj)

    def resolve_reference(self, reference: Any) -> Any:
        """Return the object or stream that a pickle refers to."""
        kind, oid, *name = reference
        with transitions:
            found = self._objects.get(oid)
            if found is None:
                found = self._ghost(oid, *name) if kind == "o" else PersistentStream(self, oid)
                self._objects[oid] = found
        return found

    def _ghost(self, oid: int, module: str, name: str) -> Slots:
        obj: Slots = fresh(variants(self._class(module, name)).ghost)
        JAR.__set__(obj, self._jar())
        OID.__set__(obj, oid)
        return obj

    # --- Classes

    def find_class(self, module: str, name: str) -> Any:
        """Return the result of the database's `find_class`."""
        jar: Any = self._jar()
        return jar.find_class(module, name)

    def _class(self, module: str, name: str) -> PersistentType:
        try:
            found = self.find_class(module, name)
        except (ImportError, AttributeError):
            found = None
        if isinstance(found, PersistentType):
            return found
        broken = PersistentType(name, (self._broken,), {"__slots__": (), "__module__": module})
        broken.__qualname__ = name
        self._names[broken] = module, name
        return broken

    def name_of(self, cls: PersistentType) -> tuple[str, str]:
        """Return a class's module and name, from which it can be found again."""
        name = self._names.get(cls)
        if name is None:
            name = cls.__module__, cls.__qualname__
            if self._class(*name) is not cls:
                raise TypeError(
                    f"cannot store objects of {cls!r}: it cannot be imported as {name}"
                )
            self._names[cls] = name
        return name

    # --- Processes

    def after_fork(self) -> None:
        """Open the file for a forked child.

        The child must not share the lock of the parent, and must not create a file that was
        removed.
        """
        self.visibility = threading.RLock()
        if self.closed:
            return
        try:
            self.log = self._open_log(self.path, existing=True)
        except (OSError, IntegrityError) as error:
            self.closed, self.lost = True, error
            return
        self._apply(list(self._objects), root=True)
        self._replaced = {}


def _after_fork() -> None:
    for store in list(_stores):
        store.after_fork()


os.register_at_fork(after_in_child=_after_fork)
