"""Drives both storages through transactions, packs and reopenings, and compares them."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import zodbpickle.pickle  # type: ignore[import-untyped]
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from persistent.TimeStamp import TimeStamp
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage.fspack import PackError
from ZODB.POSException import POSKeyError
from ZODB.serialize import referencesf
from ZODB.utils import newTid, p64, u64, z64

from differential.clock import Clock
from differential.closure import lost_blobs, lost_objects, tid_of
from differential.pair import Pair, Raised, Side
from differential.questions import (
    ask_about_objects,
    ask_all,
    findable_tids,
    known_tids,
    record_data,
    transactions,
)
from differential.steps import OBJECTS, Ending, Step, end, steps, take

if TYPE_CHECKING:
    from differential.questions import RecordData

# A file system in memory, where syncs are free; other tests cover crash safety.
SHARED_MEMORY = "/dev/shm"  # noqa: S108 -- mkdtemp makes names nobody can guess
MEMORY = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
# One more object than are ever stored.
OIDS = [p64(number) for number in range(OBJECTS + 1)]
SECONDS = st.sampled_from([0.0, 0.001, 1.0, 1.0, 1.0, 61.0, -3.0])
LENGTHS = st.sampled_from([0, 3, 65535, 65536])
USERS = st.sampled_from([b"", b"user", b"\xff" * 40])
EXTENSIONS = st.sampled_from([{}, {}, {"name": "value", "more": (1, None)}])
ENDINGS = st.sampled_from(["finish"] * 6 + ["vote and abort", "abort", "other's vote"])
# Exceptions of ZODB's packs: the first after the undo of an undone creation, the second if an
# undo restores one of several records of an object in a transaction (they may also use the
# wrong one, see test_pack_keeps_an_object_away), the third if an object that an undo restores
# refers to a missing object.
STUMBLES = PackError, AssertionError, KeyError
STATUSES = st.sampled_from([" ", " ", "p"])


def other_referencesf(data: bytes, oids: list[bytes] | None = None) -> Any:
    """Find references as ZODB does, but not as the same function object."""
    return referencesf(data, oids)


def assert_part_of(before: RecordData, after: RecordData) -> None:
    """Fail if a record has other data than before."""
    for record, data in after.items():
        assert data.keys() <= before[record].keys(), record


class Storages(RuleBasedStateMachine):
    """All operations of a storage without blobs."""

    options: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.directory = Path(tempfile.mkdtemp(prefix="differential-", dir=MEMORY))
        self.pair = Pair(self.directory, **self.options)
        self.changed = True
        self.old_indexes: list[bytes | None] | None = None

    def teardown(self) -> None:
        try:
            self.pair.remove()
        finally:
            self.clock.restore()

    # --- Transactions

    @initialize(step=steps(blobs=False))
    def commit_root(self, step: Step) -> None:
        """Begin with a root; without one, packs would drop most objects."""
        if step.kind == "store":
            root = Step("store", 0, "zero", step.data, None)
            self.commit({}, [root])

    def commit(
        self,
        meta: dict[str, Any],
        taken: list[Step],
        ending: Ending = "finish",
        copied: tuple[bytes, str] | None = None,
    ) -> None:
        """Make a transaction of these steps; abort it if a step fails.

        `copied` is its id and status if it is copied from elsewhere.
        """
        self.changed = True
        tids = findable_tids(self.pair)
        tid = copied[0] if copied else None
        arguments = copied or ()
        begun = self.pair.do(lambda side: side.begin(meta, *arguments))
        if isinstance(begun, Raised):
            self.pair.do(lambda side: side.storage.tpc_abort(side.transaction))
            return
        for step in taken:
            if isinstance(self.pair.do(partial(take, step=step, tids=tids, tid=tid)), Raised):
                ending = "abort"
                break
        end(self.pair, ending)

    @rule(
        seconds=SECONDS,
        user=USERS,
        taken=st.lists(steps(blobs=False), max_size=4),
        ending=ENDINGS,
    )
    def transact(self, seconds: float, user: bytes, taken: list[Step], ending: Ending) -> None:
        self.clock.move(seconds)
        self.commit({"user": user}, taken, ending)

    @rule(step=steps(blobs=False))
    def take_one_step(self, step: Step) -> None:
        self.clock.move(1.0)
        self.commit({"description": b"one"}, [step])

    @rule(user=LENGTHS, description=LENGTHS, extension=EXTENSIONS)
    def describe(self, user: int, description: int, extension: dict[str, Any]) -> None:
        """Make a transaction with fields of these lengths."""
        meta = {
            "user": b"u" * user,
            "description": b"d" * description,
            "extension": extension,
        }
        self.clock.move(1.0)
        self.commit(meta, [Step("store", 0, "current", b"data", None)])

    @rule(count=st.integers(1, 4))
    def undo_in_turn(self, count: int) -> None:
        """Undo the last transaction, then the one before it, and so on."""
        undone = [Step("undo", 0, "current", None, which) for which in range(count)]
        self.clock.move(1.0)
        self.commit({"description": b"undo"}, undone)

    @rule(
        ahead=st.sampled_from([0.0, 5.0]),
        status=STATUSES,
        taken=st.lists(steps(blobs=False), max_size=3),
    )
    def copy(self, ahead: float, status: str, taken: list[Step]) -> None:
        """Make a transaction with an id from elsewhere, as replication does."""
        self.clock.move(1.0)
        last = self.pair.do(lambda side: side.storage.lastTransaction())
        tid = p64(u64(newTid(last)) + int(ahead * 1000))
        if any(found[1] != "p" for found in transactions(self.pair.theirs.storage)):
            status = " "  # transactions marked as packed are at the beginning
        self.commit({"user": b"copied"}, taken, copied=(tid, status))

    @rule(taken=steps(blobs=False), tid=st.booleans())
    def interfere(self, taken: Step, tid: bool) -> None:
        """Call with a wrong transaction, then with the current one twice."""
        self.clock.move(1.0)
        tids = findable_tids(self.pair)
        present = p64(7) if tid else None

        def call(side: Side, name: str, *arguments: Any) -> Any:
            return getattr(side.storage, name)(side.transaction, *arguments)

        for begun in False, True:
            if begun:
                self.pair.do(lambda side: side.begin({"user": b"right"}))
                right = [side.transaction for side in self.pair.sides]
            for side in self.pair.sides:
                side.transaction = TransactionMetaData()
            self.pair.do(partial(take, step=taken, tids=tids, tid=present))
            for name in "tpc_vote", "tpc_finish", "tpc_abort":
                self.pair.do(partial(call, name=name))
        for side, transaction in zip(self.pair.sides, right, strict=True):
            side.transaction = transaction
        self.pair.do(partial(call, name="tpc_begin"))
        self.pair.do(lambda side: side.storage.tpc_transaction() is side.transaction)
        self.pair.do(partial(take, step=taken, tids=tids, tid=None))
        for name in "tpc_vote", "tpc_abort", "tpc_abort", "tpc_finish":
            self.pair.do(partial(call, name=name))
        self.changed = True

    # --- The storage as a whole

    @rule(step=steps(blobs=False), back=st.integers(0, 6))
    def pack_beside(self, step: Step, back: int) -> None:
        """Commit during a pack, when it first extracts references."""
        tids = known_tids(self.pair)
        time = TimeStamp(tids[-1 - back]).timeTime() if back < len(tids) else self.clock.now
        taking = partial(take, step=step, tids=findable_tids(self.pair), tid=None)
        self.clock.move(1.0)
        before = record_data(self.pair.ours.storage)
        outcomes: dict[Side, list[Any]] = {side: [] for side in self.pair.sides}

        def commit(side: Side) -> Any:
            side.begin({"user": b"beside"})
            taken = self.pair.outcome(side, taking)
            if isinstance(taken, Raised):
                side.storage.tpc_abort(side.transaction)
                return taken
            side.storage.tpc_vote(side.transaction)
            tid = side.storage.tpc_finish(side.transaction)
            before.update(record_data(side.storage))
            return tid

        def pack(side: Side) -> Any:
            def references(data: bytes, oids: list[bytes] | None = None) -> Any:
                if not outcomes[side]:
                    outcomes[side].append(self.pair.outcome(side, commit))
                return referencesf(data, oids)

            return side.storage.pack(time, references)

        ours, theirs = self.pair.outcomes(pack)
        if outcomes[self.pair.ours] and not outcomes[self.pair.theirs]:
            # ZODB does not extract references of later records, so nothing was committed.
            assert ours in {None, Raised(zodbpickle.pickle.UnpicklingError)}
            self.check_ours(before, time)
            self.go_on_with_ours()
            return
        self.compare_packs(before, time, ours, theirs)
        self.pair.compare_outcomes(*(outcomes[side] for side in self.pair.sides))

    @rule(
        back=st.integers(0, 6),
        later=st.sampled_from([-0.0001, 0.0, 0.5]),
        gc=st.sampled_from([None, True, False]),
        native=st.booleans(),
    )
    def pack(self, back: int, later: float, gc: bool | None, native: bool) -> None:
        """Pack to about the time of a transaction, or to now."""
        tids = known_tids(self.pair)
        time = TimeStamp(tids[-1 - back]).timeTime() if back < len(tids) else self.clock.now
        references = referencesf if native else other_referencesf

        def pack(side: Side) -> Any:
            return side.storage.pack(time + later, references, gc=gc)

        before = record_data(self.pair.ours.storage)
        self.compare_packs(before, time + later, *self.pair.outcomes(pack))

    def compare_packs(self, before: RecordData, time: float, ours: Any, theirs: Any) -> None:
        """Fail unless both packs ended alike, and ours kept the data of all kept records.

        If ZODB's pack fails or loses objects that a record needs, continue with our file.
        """
        self.check_ours(before, time)
        zodb_stumbled = isinstance(theirs, Raised) and theirs.type in STUMBLES
        if ours is None and zodb_stumbled:
            stumbled = True
        elif ours == Raised(zodbpickle.pickle.UnpicklingError) and (
            theirs is None or zodb_stumbled
        ):
            # We also read the references of later records; ZODB does so at the next pack.
            stumbled = True
        elif {ours, theirs} == {
            Raised(POSKeyError, getattr(ours, "text", "")),
            Raised(zodbpickle.pickle.UnpicklingError),
        }:
            # A missing object and a damaged pickle: the order determines which is found first.
            stumbled = False
        else:
            self.pair.compare_outcomes(ours, theirs)
            stumbled = self.zodb_lost(before, tid_of(time))
        if stumbled:
            self.go_on_with_ours()

    def check_ours(self, before: RecordData, time: float) -> None:
        """Fail unless our pack kept the data of all kept records, and all objects they need."""
        self.changed = True
        left = record_data(self.pair.ours.storage)
        assert_part_of(before, left)
        assert not lost_objects(before, left, tid_of(time))
        assert not self.lost_blobs(self.pair.ours)

    def go_on_with_ours(self) -> None:
        """Give ZODB's storage our files."""
        self.changed = True
        self.pair.close()
        self.pair.give_ours()
        self.pair.open()

    def zodb_lost(self, before: RecordData, stop: bytes) -> bool:
        """Return whether ZODB's pack changed data or lost objects."""
        left = record_data(self.pair.theirs.storage)
        try:
            assert_part_of(before, left)
        except AssertionError:
            return True
        return bool(lost_objects(before, left, stop) or self.lost_blobs(self.pair.theirs))

    def lost_blobs(self, side: Side) -> list[str]:
        """Return the blobs with a record on this side, but a file only on the other side."""
        if not side.storage.blob_dir:
            return []
        return lost_blobs(self.pair, side, record_data(side.storage))

    @rule(crosswise=st.booleans())
    def copy_all(self, crosswise: bool) -> None:
        """Copy all transactions to new storages, from the same class or the other one."""
        sources = [side.storage for side in self.pair.sides]
        if crosswise:
            sources.reverse()
        directory = self.directory / "copies"
        directory.mkdir()
        copies = Pair(directory, **self.options)
        try:
            for side, source in zip(copies.sides, sources, strict=True):
                side.source = source
            copies.do(lambda side: side.storage.copyTransactionsFrom(side.source))
            copies.compare_files()
            if copies.do(lambda side: side.storage.tpc_transaction() is not None):
                copies.do(lambda side: side.storage.tpc_abort(side.storage.tpc_transaction()))
                copies.compare_files()
        finally:
            copies.remove()

    @rule()
    def new_oid(self) -> None:
        """Allocate an oid, which must be higher than those of all records.

        ZODB also counts the records of an aborted `restore`. Ours must not, because a secondary
        aborts transactions with a wrong digest.
        """
        ours, theirs = (side.storage for side in self.pair.sides)
        records = [oid for _, oid in record_data(ours)]
        assert max(records, default=z64) <= ours._oid
        ours.set_max_oid(theirs._oid)
        self.pair.do(lambda side: side.storage.new_oid())

    @rule(
        index=st.sampled_from(["kept", "exchanged", "removed", "old", "damaged"]),
        tail=st.one_of(st.none(), st.binary(max_size=40), st.integers(1, 60)),
    )
    def reopen(self, index: str, tail: bytes | int | None) -> None:
        """Close and reopen both, possibly after an accident."""
        self.pair.close()
        self.pair.compare_files()
        self.treat_indexes(index)
        for side in self.pair.sides:
            content = side.path.read_bytes()
            if isinstance(tail, bytes):
                side.path.write_bytes(content + tail)
            elif tail is not None:
                side.path.write_bytes(content[: max(4, len(content) - tail)])
        self.changed = True
        self.pair.open()
        trails = [sorted(p.name for p in s.directory.glob("*.tr*")) for s in self.pair.sides]
        assert trails[0] == trails[1]
        self.pair.compare_files(["", *(name.removeprefix("Data.fs") for name in trails[0])])

    def treat_indexes(self, how: str) -> None:
        """Change the index files."""
        indexes = [side.content(".index") for side in self.pair.sides]
        assert None not in indexes
        if how == "exchanged":
            self.pair.exchange(".index")
        for side, old in zip(self.pair.sides, self.old_indexes or indexes, strict=True):
            file = side.file(".index")
            if how == "removed":
                file.unlink(missing_ok=True)
            elif how == "old" and old is not None:
                file.write_bytes(old)
            elif how == "damaged" and file.exists():
                content = file.read_bytes()
                file.write_bytes(content[: len(content) // 2])
        self.old_indexes = indexes

    @rule(back=st.integers(0, 6), after=st.integers(0, 1))
    def travel_in_time(self, back: int, after: int) -> None:
        """Open read-only storages of the state before some moment, and compare them."""
        tids = known_tids(self.pair)
        if back >= len(tids):
            return
        stop = p64(u64(tids[-1 - back]) + after)
        # ZODB shows all objects of an index, whatever the time.
        self.pair.theirs.file(".index").unlink(missing_ok=True)
        present = [side.storage for side in self.pair.sides]
        self.pair.do(lambda side: side.open(read_only=True, stop=stop))
        try:
            # ZODB also shows some later transactions.
            ask_about_objects(self.pair, OIDS, tids)
            self.pair.do(lambda side: side.begin({}))
            self.pair.do(lambda side: side.storage.new_oid())
            self.pair.do(lambda side: side.storage.pack(self.clock.now, referencesf))
        finally:
            self.pair.close()
            for side, storage in zip(self.pair.sides, present, strict=True):
                side.storage = storage

    # --- Invariants

    @invariant()
    def files_are_equal(self) -> None:
        self.pair.compare_files()

    @invariant()
    def answers_are_equal(self) -> None:
        if self.changed:
            ask_all(self.pair, OIDS, known_tids(self.pair))
            self.changed = False


class StoragesWithQuota(Storages):
    """The same, with little room."""

    options: ClassVar[dict[str, Any]] = {"quota": 1500}


class StoragesWithBlobs(Storages):
    """The same, and blobs."""

    options: ClassVar[dict[str, Any]] = {"blobs": "bushy"}

    @rule(taken=st.lists(steps(blobs=True), min_size=1, max_size=3), ending=ENDINGS)
    def transact_with_blobs(self, taken: list[Step], ending: Ending) -> None:
        self.clock.move(1.0)
        self.commit({"user": b"blobs"}, taken, ending)


class StoragesWithLawn(StoragesWithBlobs):
    """The same, with blobs in the layout of ZODB 3.8."""

    options: ClassVar[dict[str, Any]] = {"blobs": "lawn"}
