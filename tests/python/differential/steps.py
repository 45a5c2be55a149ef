"""Operations in a transaction, its possible ends, and performing them on both storages."""

from __future__ import annotations

from base64 import encodebytes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hypothesis import strategies as st
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import POSKeyError
from ZODB.utils import p64, z64

from differential import records
from differential.pair import Raised

if TYPE_CHECKING:
    from differential.pair import Pair, Side

OBJECTS = 6
Serial = Literal["current", "first", "zero", "never"]
Ending = Literal["finish", "vote and abort", "abort", "other's vote"]


@dataclass(frozen=True)
class Step:
    """One call in a transaction, for the object with this number.

    `kind` is the method. For `undo`, and for the `prev_txn` of `restore`, `which` counts
    back from the last transaction; a missing one stands for an unknown id.
    """

    kind: Literal["store", "delete", "check", "undo", "restore", "blob", "restore_blob"]
    number: int
    serial: Serial
    data: bytes | None
    which: int | None


def steps(*, blobs: bool) -> st.SearchStrategy[Step]:
    """Return a strategy for steps."""
    numbers = st.integers(0, OBJECTS - 1)
    forms = st.sampled_from(["class", "bare", "weak", "elsewhere"])
    references = st.lists(st.tuples(forms, numbers), max_size=3)
    data = st.one_of(
        st.builds(records.mapping, st.sampled_from(["", "a", "b" * 300]), references),
        st.builds(records.counter, st.integers(0, 5)),
    )
    kinds = ["store", "store", "store", "delete", "check", "undo", "undo", "restore"]
    return st.builds(
        Step,
        st.sampled_from([*kinds, "blob", "blob", "restore_blob"] if blobs else kinds),
        numbers,
        st.sampled_from(["current", "current", "current", "first", "zero", "never"]),
        st.one_of(data, data, data, st.none()),
        st.one_of(st.none(), st.integers(0, 6)),
    )


def serial(side: Side, step: Step) -> Any:
    """Return the serial that a step's caller takes to be current."""
    oid = p64(step.number)
    try:
        if step.serial == "current":
            return side.storage.getTid(oid)
        if step.serial == "first":
            return side.storage.history(oid, 100)[-1]["tid"]
    except POSKeyError:
        return z64
    return z64 if step.serial == "zero" else p64(1)


def take(side: Side, step: Step, tids: list[bytes], tid: bytes | None) -> Any:
    """Perform a step in a side's transaction; `tid` is its id if the caller set it."""
    storage, transaction, oid = side.storage, side.transaction, p64(step.number)
    # Without data ZODB writes a record that cannot be read; we refuse.
    data = step.data or b"."
    known = step.which is not None and step.which < len(tids)
    earlier = tids[-1 - step.which] if known and step.which is not None else None
    # The id of the current transaction, which the common base class keeps here.
    tid = tid or bytes(storage._tid)
    if step.kind == "undo":
        undone, oids = storage.undo(undo_id(earlier or p64(7)), transaction)
        return undone, sorted(oids)
    file = side.write_blob(data) if "blob" in step.kind else ""
    if step.kind in {"store", "delete", "check", "blob"}:
        current = serial(side, step)
        call, arguments = {
            "store": (storage.store, (oid, current, data, "")),
            "delete": (storage.deleteObject, (oid, current)),
            "check": (storage.checkCurrentSerialInTransaction, (oid, current)),
            "blob": (storage.storeBlob, (oid, current, records.blob(), file, "")),
        }[step.kind]
    elif step.kind == "restore":
        # A record without data has no earlier data either, for which ZODB raises.
        hint = earlier if step.data else None
        call, arguments = storage.restore, (oid, tid, step.data, "", hint)
    else:
        call, arguments = storage.restoreBlob, (oid, tid, records.blob(), file, earlier)
    return call(*arguments, transaction)


def undo_id(tid: bytes) -> bytes:
    """Return a transaction's id as `undoLog` gives it."""
    return encodebytes(tid).rstrip()


def end(pair: Pair, ending: Ending) -> Any:
    """End the current transaction of both."""
    if ending == "other's vote":
        pair.do(lambda side: side.storage.tpc_vote(TransactionMetaData()))
    if ending not in {"abort", "other's vote"}:
        voted = pair.do(lambda side: side.storage.tpc_vote(side.transaction))
        if isinstance(voted, Raised):
            ending = "abort"
    if ending == "finish":
        return pair.do(lambda side: side.storage.tpc_finish(side.transaction))
    return pair.do(lambda side: side.storage.tpc_abort(side.transaction))
