"""The same operations on our FileStorage and on ZODB's leave equal files and answers.

ZRS_DIFFERENTIAL_EXAMPLES sets the number of runs of each test, and ZRS_DIFFERENTIAL_STEPS the
number of operations in the longest run.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from ZODB.fsIndex import fsIndex
from ZODB.POSException import POSKeyError
from ZODB.serialize import referencesf
from ZODB.utils import p64, z64

from differential import records
from differential.clock import Clock
from differential.machine import (
    OIDS,
    Storages,
    StoragesWithBlobs,
    StoragesWithLawn,
    StoragesWithQuota,
)
from differential.pair import Pair, Raised, Side
from differential.questions import ask_all, known_tids
from differential.steps import undo_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# ZODB's class leaves files open if it cannot open its own.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

EXAMPLES = int(os.environ.get("ZRS_DIFFERENTIAL_EXAMPLES", "60"))
STEPS = int(os.environ.get("ZRS_DIFFERENTIAL_STEPS", "12"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,  # the time of files and fsync varies
    suppress_health_check=[HealthCheck.too_slow],
)

TestStorages = Storages.TestCase
TestStorages.settings = SETTINGS
TestStoragesWithQuota = StoragesWithQuota.TestCase
TestStoragesWithQuota.settings = SETTINGS
TestStoragesWithBlobs = StoragesWithBlobs.TestCase
TestStoragesWithBlobs.settings = SETTINGS
TestStoragesWithLawn = StoragesWithLawn.TestCase
TestStoragesWithLawn.settings = SETTINGS


@pytest.fixture
def clock() -> Iterator[Clock]:
    """Make time stand still."""
    clock = Clock()
    yield clock
    clock.restore()


@pytest.fixture
def pair(tmp_path: Path, clock: Clock) -> Iterator[Pair]:  # noqa: ARG001 -- it is wanted
    """Open both storages."""
    pair = Pair(tmp_path)
    yield pair
    pair.close()


def commit(side: Side, count: int = 1) -> Any:
    """Store the objects 0 to count - 1, and return the transaction's id."""
    side.begin({"user": b"user"})
    for number in range(count):
        oid, data = p64(number), records.mapping(str(number), [])
        side.storage.store(oid, side.storage.lastTid(oid) or z64, data, "", side.transaction)
    side.storage.tpc_vote(side.transaction)
    return side.storage.tpc_finish(side.transaction)


def test_undo_log_has_even_the_shortest_transaction(pair: Pair) -> None:
    """A transaction of 39 bytes, the only one in its file, was left out."""

    def commit_nothing(side: Side) -> None:
        side.begin({"user": b"copy"})
        side.storage.tpc_vote(side.transaction)
        side.storage.tpc_finish(side.transaction)

    pair.do(commit_nothing)
    assert len(pair.do(lambda side: side.storage.undoLog())) == 1


def test_transaction_that_cannot_begin_uses_up_its_id(pair: Pair) -> None:
    """The next transaction had the same id, which ZODB uses only once."""
    too_long = {"user": b"x" * 65536}
    assert isinstance(pair.do(lambda side: side.begin(too_long)), Raised)
    pair.do(lambda side: side.storage.tpc_abort(side.transaction))
    pair.do(commit)
    pair.compare_files()


def test_commit_is_as_if_never_begun_when_its_callback_fails(pair: Pair) -> None:
    """ZODB leaves the vote in the file then, and ours does not; later results are equal."""

    def fail_in_finish(side: Side) -> None:
        side.begin({"user": b"user"})
        side.storage.store(p64(0), z64, b"never seen", "", side.transaction)
        side.storage.tpc_vote(side.transaction)
        side.storage.tpc_finish(side.transaction, lambda _tid: 1 / 0)

    assert pair.do(fail_in_finish) == Raised(ZeroDivisionError)
    pair.do(lambda side: side.storage.tpc_abort(side.transaction))
    assert pair.ours.content("") == b"FS30"
    pair.do(commit)
    pair.compare_files()


def test_each_uses_the_index_that_the_other_saved(pair: Pair) -> None:
    pair.do(lambda side: commit(side, 2000))
    pair.close()
    indexes = [fsIndex.load(str(side.file(".index"))) for side in pair.sides]
    assert indexes[0]["pos"] == indexes[1]["pos"]
    assert list(indexes[0]["index"].items()) == list(indexes[1]["index"].items())
    pair.exchange(".index")
    for side in pair.sides:
        side.open()
        assert side.storage._used_index
    ask_all(pair, OIDS, known_tids(pair))


def test_pack_keeps_an_object_away(pair: Pair, clock: Clock) -> None:
    """ZODB brings it back, because its pack uses the first of two records in a transaction.

    The transactions before the pack time give the pack something to do. Then a transaction
    creates the object, and the next undoes that. One more undoes the undo, and then the
    creation again, so it has two records of the object. The next undoes both once more, and the
    last restores the second of those records.
    """

    def undo(side: Side, back: tuple[int, ...]) -> None:
        tids = [found.tid for found in side.storage.iterator()]
        side.begin({})
        for number in back:
            side.storage.undo(undo_id(tids[-1 - number]), side.transaction)
        side.storage.tpc_vote(side.transaction)
        side.storage.tpc_finish(side.transaction)

    gone = Raised(POSKeyError, "0x01")
    pair.do(commit)
    clock.move(1)
    pair.do(commit)
    time = clock.now
    clock.move(1)
    pair.do(lambda side: commit(side, 2))
    for back in (0,), (0, 1), (0, 1), (0,):
        pair.do(partial(undo, back=back))
    assert pair.do(lambda side: side.storage.load(p64(1))) == gone
    pair.do(lambda side: side.storage.pack(time, referencesf, gc=False))
    ours, theirs = pair.outcomes(lambda side: side.storage.load(p64(1))[0])
    assert (ours, theirs) == (gone, records.mapping("1", []))


def test_record_without_data_is_refused(pair: Pair) -> None:
    """ZODB writes one, and neither it nor the rest of the transaction can be read."""
    pair.ours.begin({})
    with pytest.raises(ValueError, match="without data"):
        pair.ours.storage.store(p64(0), z64, b"", "", pair.ours.transaction)
    pair.ours.storage.tpc_abort(pair.ours.transaction)
