"""The figures that benches/filestorage.py measures, and the file that it uses."""

from __future__ import annotations

import gc
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ZODB.FileStorage
from peaks import GROWTHS, Growth, peaks
from records import record
from ZODB.Connection import TransactionMetaData
from ZODB.serialize import referencesf
from ZODB.utils import maxtid, p64, u64, z64

from zc.zrs.filestorage import FileStorage

if TYPE_CHECKING:
    from collections.abc import Callable

CLASSES: dict[str, Any] = {"ours": FileStorage, "theirs": ZODB.FileStorage.FileStorage}
# A file system where syncs are free.
SHARED_MEMORY = "/dev/shm"  # noqa: S108 -- the directory in it has a name nobody can guess
MEMORY = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
RECORDS = 5
TRANSACTIONS = 40_000
# Half of the transactions write new objects, the others overwrite earlier ones.
SEED = 20_070
LOADS = 60_000
THREADS = 4
COMMITS = 5_000
SYNCED_COMMITS = 50
INDEXED = 1_000_000


@dataclass(frozen=True)
class Figure:
    """A measurement, its unit, and the required value."""

    title: str
    take: Callable[[Place, Any], float]
    target: str = ""
    more_is_better: bool = True
    # Whether the disk determines it: then the median of more rounds is used.
    waits_for_disk: bool = False
    # Whether it is slow, not a time, and measured only for our storage.
    alone: bool = False


class Place:
    """Directories with the measured file, which is made once.

    It is read from disk, usually from the system's cache; writes take place in `directory`,
    where syncs are free.
    """

    def __init__(self, disk: Path, directory: Path, *, quick: bool) -> None:
        self.directory = directory
        self.transactions = TRANSACTIONS // (20 if quick else 1)
        self.scale = 20 if quick else 1
        self.tids: list[bytes] = []
        self.source = disk / "Source.fs"
        self._make()

    def _make(self) -> None:
        choose = random.Random(SEED)  # noqa: S311 -- the same file each time
        made = self.directory / "Source.fs"
        storage = FileStorage(str(made), create=True, commit_sync="single")
        objects = 0
        for number in range(self.transactions):
            records = []
            for _ in range(RECORDS):
                new = number % 2 == 0
                oid = objects if new else choose.randrange(objects)
                objects += new
                # Some objects are unreachable, as in practice.
                found = [choose.randrange(objects) for _ in range(2)]
                following = [oid + 1] if oid % 50 else []
                records.append((p64(oid), record(oid, [*found, *following])))
            self.tids.append(commit(storage, records))
        self.objects = objects
        storage.close()
        for suffix in "", ".index":
            shutil.copy(f"{made}{suffix}", f"{self.source}{suffix}")

    def copy(self, *, index: bool = True) -> str:
        """Return the path of a copy of the file, with or without its index."""
        path = self.directory / "Data.fs"
        for old in self.directory.glob("Data.fs*"):
            old.unlink()
        shutil.copy(self.source, path)
        if index:
            shutil.copy(f"{self.source}.index", f"{path}.index")
        return str(path)

    def open(self, cls: Any) -> Any:
        """Open the file to read from it."""
        return cls(str(self.source), read_only=True)

    @property
    def megabytes(self) -> float:
        """The length of the file."""
        return self.source.stat().st_size / 1e6


def commit(storage: Any, records: list[tuple[bytes, bytes]]) -> bytes:
    """Store these records in a transaction."""
    transaction = TransactionMetaData(b"user", b"description")
    storage.tpc_begin(transaction)
    for oid, data in records:
        try:
            serial = storage.getTid(oid)
        except KeyError:
            serial = z64
        storage.store(oid, serial, data, "", transaction)
    storage.tpc_vote(transaction)
    return bytes(storage.tpc_finish(transaction))


def seconds(act: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> float:
    """Return how long something takes, in processor time unless a clock is given.

    Without waiting, both clocks agree, but wall-clock time includes other load on the machine.
    """
    gc.collect()
    start = clock()
    act()
    return clock() - start


def _loads(place: Place, tids: list[bytes], count: int) -> list[tuple[bytes, bytes]]:
    choose = random.Random(SEED)  # noqa: S311 -- the same objects each time
    return [(p64(choose.randrange(place.objects)), choose.choice(tids)) for _ in range(count)]


def load_current(place: Place, cls: Any) -> float:
    """Return the number of current revisions loaded per second."""
    return load(place, cls, [maxtid], 1)


def load_historical(place: Place, cls: Any) -> float:
    """Return the number of revisions before some time loaded per second."""
    return load(place, cls, [p64(u64(tid) + 1) for tid in place.tids], 1)


def load_in_threads(place: Place, cls: Any) -> float:
    """Return the number of current revisions that several threads load per second."""
    return load(place, cls, [maxtid], THREADS)


def load(place: Place, cls: Any, tids: list[bytes], threads: int) -> float:
    """Return the number of revisions loaded per second."""
    storage = place.open(cls)
    count = LOADS // place.scale // threads
    wanted = _loads(place, tids, count)

    def load_all() -> None:
        load_before = storage.loadBefore
        for oid, tid in wanted:
            load_before(oid, tid)

    def in_threads() -> None:
        running = [threading.Thread(target=load_all) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    load_all()
    taken = seconds(in_threads, time.perf_counter) if threads > 1 else seconds(load_all)
    storage.close()
    return count * threads / taken


def iterate(place: Place, cls: Any) -> float:
    """Return the number of megabytes processed per second."""
    storage = place.open(cls)

    def look() -> None:
        for transaction in storage.iterator():
            for found in transaction:
                _ = found.data

    taken = seconds(look)
    storage.close()
    return place.megabytes / taken


def record_iternext(place: Place, cls: Any) -> float:
    """Return the number of objects processed per second."""
    storage = place.open(cls)

    def look() -> None:
        following = None
        while True:
            _, _, _, following = storage.record_iternext(following)
            if following is None:
                return

    taken = seconds(look)
    storage.close()
    return place.objects / taken


def open_without_index(place: Place, cls: Any) -> float:
    """Return the number of megabytes processed per second."""
    path = place.copy(index=False)
    opened = []
    taken = seconds(lambda: opened.append(cls(path)))
    opened.pop().close()
    return place.megabytes / taken


OPEN_WITH_INDEX = """
import sys, time
from figures import CLASSES
cls = CLASSES[sys.argv[1]]
cls(sys.argv[2]).close()
start = time.process_time()
storage = cls(sys.argv[3])
print(len(storage) / (time.process_time() - start))
"""


def open_with_index(place: Place, cls: Any) -> float:
    """Return the number of objects processed per second in a new process."""
    return in_process(OPEN_WITH_INDEX, place, cls)


def in_process(program: str, place: Place, cls: Any) -> float:
    """Return the output of a program for the class, a small file and a large one."""
    few, many = place.directory / "Few.fs", place.directory / "Many.fs"
    if not many.exists():
        for file, count in (few, 1000), (many, INDEXED // place.scale):
            storage = FileStorage(str(file), create=True, commit_sync="single")
            for start in range(0, count, 1000):
                commit(storage, [(p64(start + number), b"data") for number in range(1000)])
            storage.close()
    side = next(name for name, other in CLASSES.items() if other is cls)
    measured = subprocess.run(  # noqa: S603 -- this program
        [sys.executable, "-c", program, side, str(few), str(many)],
        cwd=Path(__file__).parent,
        capture_output=True,
        check=True,
        text=True,
    )
    return float(measured.stdout)


def pack(place: Place, cls: Any) -> float:
    """Return the number of megabytes processed per second."""
    storage = cls(place.copy())
    taken = seconds(lambda: storage.pack(time.time() + 1, referencesf))
    storage.close()
    return place.megabytes / taken


def undo_log(place: Place, cls: Any) -> float:
    """Return the number of transactions listed per second."""
    storage = place.open(cls)
    taken = seconds(lambda: storage.undoLog(0, place.transactions))
    storage.close()
    return place.transactions / taken


def commits(
    cls: Any, directory: str | None, count: int, clock: Callable[[], float], **options: Any
) -> float:
    """Return the number of commits per second, in a temporary directory there."""
    records = [(p64(number), record(number, [])) for number in range(RECORDS * count)]
    batches = [records[start : start + RECORDS] for start in range(0, len(records), RECORDS)]
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
        storage = cls(str(Path(temporary) / "Data.fs"), **options)

        def commit_all() -> None:
            for batch in batches:
                commit(storage, batch)

        taken = seconds(commit_all, clock)
        storage.close()
    return count / taken


def commit_unsynced(place: Place, cls: Any) -> float:
    """Return the number of commits per second where syncs are free."""
    return commits(cls, MEMORY, COMMITS // place.scale, time.process_time)


def commit_single(place: Place, cls: Any) -> float:
    """Return the number of commits per second on a disk, with one fsync each."""
    options = {"commit_sync": "single"} if cls is FileStorage else {}
    return commits(cls, None, SYNCED_COMMITS // place.scale, time.perf_counter, **options)


def commit_ordered(place: Place, cls: Any) -> float:
    """Return the same, with our data synced before the status."""
    return commits(cls, None, SYNCED_COMMITS // place.scale, time.perf_counter)


INDEX_MEMORY = """
import gc, sys
from figures import CLASSES
cls = CLASSES[sys.argv[1]]
def resident():
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096
cls(sys.argv[2], read_only=True).close()
before = resident()
storage = cls(sys.argv[3], read_only=True)
print((resident() - before) / len(storage))
"""


def index_memory(place: Place, cls: Any) -> float:
    """Return the resident memory of an open storage per object, in bytes."""
    return in_process(INDEX_MEMORY, place, cls)


def peak_memory(what: str, growth: Growth) -> Callable[[Place, Any], float]:
    """Return a function that measures the peak memory of opening or packing a file, in MB."""
    return lambda _place, _cls: peaks(growth)[what]


PEAKS = (
    Figure(f"peak memory of {what}, {growth} (MB)", peak_memory(what, growth), alone=True)
    for what in ("open", "pack")
    for growth in GROWTHS
)
FIGURES = (
    Figure("loadBefore, current, 1 thread (1/s)", load_current, "4x"),
    Figure("loadBefore, historical, 1 thread (1/s)", load_historical, "4x"),
    Figure(f"loadBefore, current, {THREADS} threads (1/s)", load_in_threads, "5x"),
    Figure("iterate transactions and records (MB/s)", iterate, "5x"),
    Figure("record_iternext (objects/s)", record_iternext, "4x"),
    Figure("open without index (MB/s)", open_without_index, "10x"),
    Figure("open with index (objects/s)", open_with_index, "1x"),
    Figure("pack with garbage collection (MB/s)", pack, "10x"),
    Figure("undoLog (transactions/s)", undo_log, "5x"),
    Figure("commit, no cost of fsync (1/s)", commit_unsynced, "3x"),
    Figure("commit, fsync, single (1/s)", commit_single, "1x", waits_for_disk=True),
    Figure("commit, fsync, ordered (1/s)", commit_ordered, waits_for_disk=True),
    Figure("index memory (bytes/object)", index_memory, "16 bytes", more_is_better=False),
    *PEAKS,
)
