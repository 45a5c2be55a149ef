"""Whether a pack has left what the records that it left need."""

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
    """Return the last transaction that a pack to this time packs."""
    raw: bytes = TimeStamp(*time.gmtime(seconds)[:5], seconds % 60).raw()
    return raw


def lost_objects(before: RecordData, after: RecordData, stop: bytes) -> set[bytes]:
    """Return the objects that a pack to `stop` lost.

    Objects that a record refers to that it left, and that were there at the pack time, must
    still be there as they were then: the record may be reached, or an undo go back to it.
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
    """Return what a record refers to; not all that the tests store are pickles."""
    try:
        return [] if data is None else list(referencesf(data))
    except (zodbpickle.pickle.UnpicklingError, EOFError):
        return []


def lost_blobs(pair: Pair, side: Side, after: RecordData) -> list[str]:
    """Return the blob files that one of the two still has, and this one lost.

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
