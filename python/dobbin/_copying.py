"""Copies of a database without its history: snapshots and compaction."""

from __future__ import annotations

import datetime as dt
import os
import time
from typing import TYPE_CHECKING, Any

from dobbin._classes import shared_class
from dobbin._pickling import Pickler, load_state
from dobbin._slots import OID, store_of
from dobbin._store import IDENTITY

if TYPE_CHECKING:
    from dobbin._pickling import StreamLike
    from dobbin._store import Store


class Folder:
    """Combines the pickles of an object's full record and changes into one.

    This requires that the classes of the object's values can be found. The objects that it
    refers to are not loaded.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._references: dict[int, None] = {}

    def fold(self, pickles: list[bytes]) -> tuple[list[int], bytes] | None:
        """Return the oids an object refers to and its whole state, None if that fails."""
        self._references = {}
        try:
            name, attributes, items = load_state(pickles, self._store)
            pickle = Pickler.dumped((*name, attributes, items), self)
        except Exception:  # noqa: BLE001 -- pickles that cannot be folded stay as they are
            return None
        return list(self._references), pickle

    def refer_to_object(self, obj: Any) -> tuple[str, int, str, str]:
        """Return a reference to an object of the database."""
        oid = OID.__get__(obj)
        if store_of(obj) is not self._store or oid is None:
            raise ValueError(f"{obj!r} is not in this database")
        self._references[oid] = None
        return "o", oid, *self._store.name_of(shared_class(obj))

    def refer_to_stream(self, obj: StreamLike) -> tuple[str, int]:
        """Return a reference to a stream of the database."""
        oid: int = obj.oid  # type: ignore[union-attr]  # only stored streams are loaded
        self._references[oid] = None
        return "s", oid


def take_snapshot(source: Store, target: Store, timestamp: float | dt.datetime | None) -> None:
    """Write the current objects of a store, or those of a time, into an empty one."""
    if isinstance(timestamp, dt.datetime):
        timestamp = timestamp.timestamp()
    until = None if timestamp is None else int(timestamp * 1e6)
    log = target.log
    log.lock()
    try:
        target.begin(int(time.time() * 1e6))
        source.log.snapshot(log, until, Folder(source).fold)
        log.vote()
        with target.visibility:
            target.publish_number(log.finish(), elects=True)
    finally:
        log.unlock()
    log.sync()


def compact(store: Store, *, reachable: bool) -> tuple[int, int]:
    """Rewrite the file of a store; return its length before and after, in bytes."""
    log = store.log
    log.lock()
    try:
        now = int(time.time() * 1e6)
        fold = Folder(store).fold
        lengths = log.compact(os.urandom(IDENTITY), now, reachable, fold)
    finally:
        log.unlock()
    store.catch_up()
    return lengths
