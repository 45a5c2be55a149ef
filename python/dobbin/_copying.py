"""Copies of a database without its past: snapshots and compaction."""

from __future__ import annotations

import datetime as dt
import os
import time
from typing import TYPE_CHECKING, Any

from dobbin._classes import shared_class
from dobbin._pickling import Pickler, load_state
from dobbin._slots import JAR, OID

if TYPE_CHECKING:
    from dobbin._pickling import StreamLike
    from dobbin.database import Database

IDENTITY = 16  # bytes


class Folder:
    """Makes one pickle of those that rebuild an object.

    The classes of the object's values must be found for that; objects that it refers to
    are not loaded.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._references: dict[int, None] = {}

    def fold(self, pickles: list[bytes]) -> tuple[list[int], bytes] | None:
        """Return what an object refers to and its whole state, None if that is not possible."""
        self._references = {}
        try:
            name, attributes, items = load_state(pickles, self._database)
            pickle = Pickler.dumped((*name, attributes, items), self)
        except Exception:  # noqa: BLE001 -- what cannot be made here stays what it is
            return None
        return list(self._references), pickle

    def refer_to_object(self, obj: Any) -> tuple[str, int, str, str]:
        """Return a reference to an object of the database."""
        oid = OID.__get__(obj)
        if JAR.__get__(obj) is not self._database or oid is None:
            raise ValueError(f"{obj!r} is not of this database")
        self._references[oid] = None
        return "o", oid, *self._database._name_of(shared_class(obj))

    def refer_to_stream(self, obj: StreamLike) -> tuple[str, int]:
        """Return a reference to a stream of the database."""
        oid: int = obj.oid  # type: ignore[union-attr]  # nothing else is loaded
        self._references[oid] = None
        return "s", oid


def take_snapshot(
    source: Database, target: Database, timestamp: float | dt.datetime | None
) -> None:
    """Write the objects of a database, or those of a time, into an empty one."""
    if isinstance(timestamp, dt.datetime):
        timestamp = timestamp.timestamp()
    until = None if timestamp is None else int(timestamp * 1e6)
    log = target._log
    log.lock()
    try:
        target._begin(int(time.time() * 1e6))
        source._log.snapshot(log, until, Folder(source).fold)
        log.vote()
        with target._looking:
            target._show_transaction(log.finish(), elects=True)
    finally:
        log.unlock()
    log.sync()


def compact(database: Database, *, reachable: bool) -> tuple[int, int]:
    """Rewrite a database's file; return how long it was and is, in bytes."""
    log = database._log
    log.lock()
    try:
        now = int(time.time() * 1e6)
        fold = Folder(database).fold
        lengths = log.compact(os.urandom(IDENTITY), now, reachable, fold)
    finally:
        log.unlock()
    database._catch_up()
    return lengths
