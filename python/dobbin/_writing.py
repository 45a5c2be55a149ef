"""Writing the objects of a transaction to the log."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from dobbin._classes import attributes_of, shared_class
from dobbin._files import PersistentFile, any_unspooled
from dobbin._pickling import Pickler
from dobbin._slots import OID, items_of, store_of
from dobbin._streams import PersistentStream
from dobbin.exc import InvalidObjectReference

if TYPE_CHECKING:
    from dobbin._checkouts import Checkout, Outcome
    from dobbin._pickling import StreamLike
    from dobbin._slots import Slots
    from dobbin._store import Store, WrittenObject

BLOCK = 1 << 17  # bytes read from a caller's stream at a time
MOST_CHANGED = 0.5  # of an object's values; if more have changed, it is written in full


class CheckoutSource(Protocol):
    """Has the checkouts whose states are written."""

    def checkout_of(self, obj: Slots) -> Checkout | None:
        """Return the checkout to write for an object, None to write its shared state."""

    def adopt(self, obj: Slots) -> None:
        """Take over a new object's checkout, if it has one."""


class Writer:
    """Writes objects into the transaction that the log has begun.

    `written` are the written objects, and `files` the persistent files that were stored, with
    the oids of their streams.
    """

    def __init__(self, store: Store, checkouts: CheckoutSource) -> None:
        self._store = store
        self._checkouts = checkouts
        self._log = store.log
        self._queue: deque[Slots] = deque()
        self._references: list[int] = []
        self._adopted: dict[int, tuple[Slots, int]] = {}
        self._streams: dict[int, tuple[Any, int]] = {}
        self.written: list[WrittenObject] = []
        self.files: list[tuple[PersistentFile, int]] = []

    def write(self, changed: list[Slots], added: list[Slots]) -> None:
        """Write changed objects, added ones, and new ones that these refer to."""
        for obj in added:
            if OID.__get__(obj) is None:
                self._adopt(obj)
        for obj in changed:
            if (oid := OID.__get__(obj)) is not None:
                if not self._log.has(oid):
                    raise InvalidObjectReference(
                        f"{obj!r} is not in the database any more: it was unreachable when"
                        " the database was compacted; store a copy of it"
                    )
                self._write(obj, oid, new=False)
        while self._queue:
            obj = self._queue.popleft()
            self._write(obj, self._adopted[id(obj)][1], new=True)

    def oid_of(self, obj: Slots) -> int:
        """Return the oid of an object, which may be new."""
        adopted = self._adopted.get(id(obj))
        oid: int | None = obj._p_oid if adopted is None else adopted[1]
        if oid is None:
            raise InvalidObjectReference(obj)
        return oid

    # --- What pickles refer to

    def refer_to_object(self, obj: Any) -> tuple[str, int, str, str]:
        """Return a reference; a new object will be written too."""
        store = store_of(obj)
        if store is not None and store is not self._store:
            raise InvalidObjectReference(f"{obj!r} belongs to another database")
        oid = OID.__get__(obj)
        if oid is None:
            oid = self._adopt(obj)
        self._references.append(oid)
        cls = shared_class(obj)
        return "o", oid, *self._store.name_of(cls)

    def _adopt(self, obj: Slots) -> int:
        known = self._adopted.get(id(obj))
        if known is not None:
            return known[1]
        oid: int = self._log.new_oid()
        self._adopted[id(obj)] = obj, oid
        self._queue.append(obj)
        self._checkouts.adopt(obj)
        return oid

    def refer_to_stream(self, obj: StreamLike) -> tuple[str, int]:
        """Return a reference; a stream that is not in this database is written."""
        if isinstance(obj, PersistentStream) and obj.belongs_to(self._store):
            oid = obj.oid
        elif (known := self._streams.get(id(obj))) is not None:
            oid = known[1]
        else:
            oid = self._log.begin_stream()
            for block in obj.blocks(BLOCK):
                self._log.write_stream(block)
            self._log.end_stream()
            self._streams[id(obj)] = obj, oid
            if isinstance(obj, PersistentFile):
                self.files.append((obj, oid))
        self._references.append(oid)
        return "s", oid

    # --- Objects

    def _write(self, obj: Slots, oid: int, *, new: bool) -> None:
        checkout = self._checkouts.checkout_of(obj)
        if checkout is None:
            attributes, items = attributes_of(obj), items_of(obj)
        else:
            if new:
                checkout.find_changes()
            _, attributes, items = checkout.outcome
        changes = None if new or checkout is None else _changes(checkout.outcome)
        self._references = []
        if changes is not None and not self._log.wants_full(oid):
            data = Pickler.dumped(changes, self)
            full = False
        else:
            name = self._store.name_of(shared_class(obj))
            data = Pickler.dumped((*name, attributes, items), self)
            full = True
        self._log.store(oid, full, list(dict.fromkeys(self._references)), data)
        self.written.append((obj, oid, attributes, items, len(data)))


class _StreamFinder:
    """Finds the streams that will be stored with objects and the new objects they refer to."""

    def __init__(self, store: Store, checkouts: CheckoutSource) -> None:
        self._store = store
        self._checkouts = checkouts
        self._seen: dict[int, Any] = {}
        self._queue: deque[Any] = deque()
        self.files: dict[int, PersistentFile] = {}

    def find(self, objects: list[Slots]) -> None:
        """Fill `files`. The writer raises the error of objects that cannot be stored."""
        for obj in objects:
            self._add(obj)
        while self._queue:
            obj = self._queue.popleft()
            checkout = self._checkouts.checkout_of(obj)
            state = (
                (attributes_of(obj), items_of(obj)) if checkout is None else checkout.merged()
            )
            with contextlib.suppress(Exception):  # the writer raises it
                Pickler.dumped(state, self)

    def _add(self, obj: Any) -> None:
        if id(obj) not in self._seen:
            self._seen[id(obj)] = obj
            self._queue.append(obj)

    def refer_to_object(self, obj: Any) -> tuple[str, int, str, str]:
        """Search an object that is new."""
        if OID.__get__(obj) is None and store_of(obj) in (None, self._store):
            self._add(obj)
        return "o", 0, "", ""

    def refer_to_stream(self, obj: StreamLike) -> tuple[str, int]:
        """Note a file."""
        if isinstance(obj, PersistentFile):
            self.files[id(obj)] = obj
        return "s", 0


def spool_streams(store: Store, checkouts: CheckoutSource, objects: list[Slots]) -> None:
    """Copy the streams that will be stored with objects and cannot be read again."""
    if any_unspooled():
        finder = _StreamFinder(store, checkouts)
        finder.find(objects)
        for file in finder.files.values():
            file.spool()


def _changes(outcome: Outcome) -> Any:
    """Return an object's changes, None if there are too many to be worth a record of changes."""
    total = len(outcome.attributes) + len(outcome.items or ())
    changed = sum(map(len, outcome.changes))
    return outcome.changes if changed <= MOST_CHANGED * total else None
