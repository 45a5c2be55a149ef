"""Whether a pack has kept everything that the kept records need."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import zodbpickle.pickle  # type: ignore[import-untyped]
from persistent.TimeStamp import TimeStamp
from ZODB.POSException import POSKeyError
from ZODB.serialize import referencesf

if TYPE_CHECKING:
    from differential.pair import Pair, Side
    from differential.questions import RecordData


def tid_of(seconds: float) -> bytes:
    """Return the last transaction that is packed by a pack to this time."""
    raw: bytes = TimeStamp(*time.gmtime(seconds)[:5], seconds % 60).raw()
    return raw


def lost_objects(before: RecordData, after: RecordData, stop: bytes) -> set[bytes]:
    """Return the objects that a pack to `stop` lost.

    An object that existed at the pack time, and that a kept record refers to, must still exist
    as it was then, because the record may be reachable, or an undo may restore it.
    """
    then: dict[bytes, bytes | None] = {}
    for (tid, oid), data in before.items():
        if tid <= stop:
            then[oid] = None if list(data)[-1] is None else tid
    needed: set[bytes] = set()
    for data in after.values():
        for one in data:
            needed.update(_references(one))
    current = {oid: serial for oid in needed if (serial := then.get(oid)) is not None}
    return {oid for oid, serial in current.items() if (serial, oid) not in after}


def _references(data: bytes | None) -> list[bytes]:
    """Return the references of a record; not all records in the tests are pickles."""
    try:
        return [] if data is None else list(referencesf(data))
    except (zodbpickle.pickle.UnpicklingError, EOFError):
        return []


def lost_blobs(pair: Pair, side: Side, after: RecordData) -> list[str]:
    """Return the blob files that this side lost and the other side still has.

    `after` has the records of this side.
    """
    missing = []
    for tid, oid in after:
        names = [str(s.storage.fshelper.getBlobFilename(oid, tid)) for s in pair.sides]
        names = [
            n.removeprefix(str(s.directory)) for n, s in zip(names, pair.sides, strict=True)
        ]
        there = [
            (s.directory / name.lstrip("/")).exists()
            for name, s in zip(names, pair.sides, strict=True)
        ]
        mine = there[pair.sides.index(side)]
        if any(there) and not mine:
            try:
                side.storage.loadSerial(oid, tid)
            except POSKeyError:
                continue
            missing.append(names[0])
    return missing
