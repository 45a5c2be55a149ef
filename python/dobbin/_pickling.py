"""Objects as pickles, and back.

A pickle refers to an object as ``("o", oid, module, class)`` and to a stream as
``("s", oid)``. A full record is the pickle of module, class, attributes and items (None
unless the object is a dictionary); a record of changes that of attributes set, attributes
deleted, items set, items deleted.
"""

from __future__ import annotations

import contextlib
import io
import pickle
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from dobbin._classes import PersistentType, attributes_of, shared_class
from dobbin._files import PersistentFile, any_waiting
from dobbin._slots import JAR, OID, items_of
from dobbin._streams import PersistentStream
from dobbin.exc import InvalidObjectReference

if TYPE_CHECKING:
    from dobbin._checkouts import Settled
    from dobbin._participants import Connected
    from dobbin.database import Database
    from dobbin.persistent import Persistent

PROTOCOL = 5
BLOCK = 1 << 17  # bytes that are read from a caller's stream at once
# What pickles are mostly made of, and what is never referred to.
PLAIN = frozenset({dict, list, tuple, set, str, bytes, int, float, bool, type(None)})
MOST_CHANGED = 0.5  # of an object, from which on it is written in full


StreamLike: TypeAlias = "PersistentFile | PersistentStream"


class Referring(Protocol):
    """What makes references for a pickle."""

    def refer_to_object(self, obj: Any) -> tuple[str, int, str, str]:
        """Return what stands for an object."""

    def refer_to_stream(self, obj: StreamLike) -> tuple[str, int]:
        """Return what stands for a stream."""


class Pickler(pickle.Pickler):
    """Pickles the state of an object."""

    def __init__(self, file: io.BytesIO, referring: Referring) -> None:
        super().__init__(file, PROTOCOL)
        self._referring = referring

    @classmethod
    def dumped(cls, value: Any, referring: Referring) -> bytes:
        """Return the pickle of something."""
        file = io.BytesIO()
        cls(file, referring).dump(value)
        return file.getvalue()

    def persistent_id(self, obj: Any) -> Any:
        """Return what stands for an object or stream, None for anything else."""
        if type(obj) in PLAIN:
            return None
        if isinstance(type(obj), PersistentType):
            return self._referring.refer_to_object(obj)
        if isinstance(obj, (PersistentFile, PersistentStream)):
            return self._referring.refer_to_stream(obj)
        return None


class Writer:
    """Writes objects into the transaction that the log has begun.

    `written` has what is to be shared afterwards: object, oid, attributes, items and how
    many bytes were written; `files` the persistent files that have become streams.
    """

    def __init__(self, database: Database, participant: Connected) -> None:
        self._database = database
        self._participant = participant
        self._log = database._log
        self._queue: deque[Persistent] = deque()
        self._references: list[int] = []
        self._adopted: dict[int, tuple[Persistent, int]] = {}
        self._streams: dict[int, tuple[Any, int]] = {}
        self.written: list[
            tuple[Persistent, int, dict[str, Any], dict[Any, Any] | None, int]
        ] = []
        self.files: list[tuple[PersistentFile, int]] = []

    def write(self, changed: list[Persistent], added: list[Persistent]) -> None:
        """Write changed objects, added ones, and new ones that these refer to."""
        for obj in added:
            if OID.__get__(obj) is None:
                self._adopt(obj)
        for obj in changed:
            if (oid := OID.__get__(obj)) is not None:
                if not self._log.has(oid):
                    raise InvalidObjectReference(
                        f"{obj!r} is not in the database any more: it was unreachable when the "
                        "database was compacted; store a copy of it"
                    )
                self._write(obj, oid, new=False)
        while self._queue:
            obj = self._queue.popleft()
            self._write(obj, self._adopted[id(obj)][1], new=True)

    @property
    def elects(self) -> bool:
        """Whether the transaction elects a root."""
        return self._participant.root is not None

    def oid_of(self, obj: Persistent) -> int:
        """Return an object's number, also if it is new."""
        adopted = self._adopted.get(id(obj))
        oid: int | None = obj._p_oid if adopted is None else adopted[1]
        if oid is None:
            raise InvalidObjectReference(obj)
        return oid

    # --- What pickles refer to

    def refer_to_object(self, obj: Any) -> tuple[str, int, str, str]:
        """Return a reference; a new object will be written too."""
        jar = JAR.__get__(obj)
        if jar is not None and jar is not self._database:
            raise InvalidObjectReference(f"{obj!r} belongs to another database")
        oid = OID.__get__(obj)
        if oid is None:
            oid = self._adopt(obj)
        self._references.append(oid)
        cls = shared_class(obj)
        return "o", oid, *self._database._name_of(cls)

    def _adopt(self, obj: Persistent) -> int:
        known = self._adopted.get(id(obj))
        if known is not None:
            return known[1]
        oid: int = self._log.new_oid()
        self._adopted[id(obj)] = obj, oid
        self._queue.append(obj)
        self._participant.adopt(obj)
        return oid

    def refer_to_stream(self, obj: StreamLike) -> tuple[str, int]:
        """Return a reference; the bytes of a stream that is not ours are written."""
        if isinstance(obj, PersistentStream) and obj.belongs_to(self._database):
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

    def _write(self, obj: Persistent, oid: int, *, new: bool) -> None:
        checkout = self._participant.checkout_of(obj)
        if checkout is None:
            attributes, items = attributes_of(obj), items_of(obj)
        else:
            if new:
                checkout.settle()
            _, attributes, items = checkout.settled
        changes = None if new or checkout is None else _changes(checkout.settled)
        self._references = []
        if changes is not None and not self._log.wants_full(oid):
            data = Pickler.dumped(changes, self)
            full = False
        else:
            name = self._database._name_of(shared_class(obj))
            data = Pickler.dumped((*name, attributes, items), self)
            full = True
        self._log.store(oid, full, list(dict.fromkeys(self._references)), data)
        self.written.append((obj, oid, attributes, items, len(data)))


class _Finder:
    """Finds the streams that objects and the new objects that these refer to will store."""

    def __init__(self, database: Database, participant: Connected) -> None:
        self._database = database
        self._participant = participant
        self._seen: dict[int, Any] = {}
        self._queue: deque[Any] = deque()
        self.files: dict[int, PersistentFile] = {}

    def find(self, objects: list[Persistent]) -> None:
        """Fill `files`. Objects that cannot be stored are left to the writer, which says why."""
        for obj in objects:
            self._add(obj)
        while self._queue:
            obj = self._queue.popleft()
            checkout = self._participant.checkout_of(obj)
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
        """Look into an object that is new."""
        if OID.__get__(obj) is None and JAR.__get__(obj) in (None, self._database):
            self._add(obj)
        return "o", 0, "", ""

    def refer_to_stream(self, obj: StreamLike) -> tuple[str, int]:
        """Note a file."""
        if isinstance(obj, PersistentFile):
            self.files[id(obj)] = obj
        return "s", 0


def spool_streams(
    database: Database, participant: Connected, objects: list[Persistent]
) -> None:
    """Copy the streams that the objects will store and that cannot be read again."""
    if any_waiting():
        finder = _Finder(database, participant)
        finder.find(objects)
        for file in finder.files.values():
            file.spool()


def _changes(settled: Settled) -> Any:
    """Return an object's changes, None if they are so many that all may as well be written."""
    all_of_it = len(settled.attributes) + len(settled.items or ())
    changed = sum(map(len, settled.changes))
    return settled.changes if changed <= MOST_CHANGED * all_of_it else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, database: Database) -> None:
        super().__init__(io.BytesIO(data))
        self._database = database

    def find_class(self, module: str, name: str) -> Any:
        return self._database.find_class(module, name)

    def persistent_load(self, reference: Any) -> Any:
        return self._database._referred(reference)


State = tuple[tuple[str, str], dict[str, Any], "dict[Any, Any] | None"]


def load_state(pickles: list[bytes], database: Database) -> State:
    """Return the class's name, attributes and items that a full record and changes give."""
    full, *changes = pickles
    module, name, attributes, items = _Unpickler(full, database).load()
    for data in changes:
        changed, deleted, items_changed, items_deleted = _Unpickler(data, database).load()
        for key in deleted:
            attributes.pop(key, None)
        attributes.update(changed)
        for key in items_deleted:
            items.pop(key, None)
        if items_changed:
            items.update(items_changed)
    return (module, name), attributes, items
