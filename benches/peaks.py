"""Peak memory of opening and packing growing files, in separate processes.

Two kinds of files grow: one has an increasing history of the same objects, the other an
increasing number of objects.
"""

from __future__ import annotations

import math
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from records import record
from ZODB.Connection import TransactionMetaData
from ZODB.utils import p64, z64

from zc.zrs.filestorage import FileStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

GIGABYTE = 1_000_000_000
# Number of objects in the file with a growing history.
OBJECTS = 100_000
RECORD_LENGTH = 1000
BATCH = 10_000
SEED = 5

CHILD = """
import sys, time
from ZODB.serialize import referencesf
from zc.zrs.filestorage import FileStorage

def kilobytes(name):
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith(name)).split()[1])

what, empty, path = sys.argv[1:]
with_imports = FileStorage(empty)
with_imports.pack(time.time(), referencesf)
with_imports.close()
before = kilobytes("VmRSS")
storage = FileStorage(path, read_only=what == "open")
if what == "pack":
    storage.pack(time.time() + 1, referencesf)
print((kilobytes("VmHWM") - before) * 1024 / 1e6)
storage.close()
"""


@dataclass(frozen=True)
class Growth:
    """A kind of file and its length."""

    gigabytes: float
    more_objects: bool

    @property
    def length(self) -> float:
        """The length of the file in bytes."""
        return self.gigabytes * GIGABYTE

    @property
    def objects(self) -> int:
        """The number of objects."""
        if not self.more_objects:
            return OBJECTS
        data_header = 42
        return math.ceil(self.length / (len(next(records(1))[1]) + data_header))

    def __str__(self) -> str:
        return f"{self.gigabytes:g} GB, {self.objects / 1e6:.2g} million objects"


SIZES = (0.1, 1, 5)
GROWTHS = [Growth(size, more) for more in (False, True) for size in SIZES]


def records(objects: int) -> Iterator[tuple[int, bytes]]:
    """Yield oids and records endlessly: all objects, then random ones again.

    Nine of ten objects refer to the next one, and each to two random ones.
    """
    choose = random.Random(SEED)  # noqa: S311 -- the same file each time
    marks = [1 << 60, (1 << 60) + 1, (1 << 60) + 2]
    # Pickling each would take most of the time.
    rest, parts = record(0, marks, RECORD_LENGTH), []
    for mark in marks:
        part, rest = rest.split(p64(mark))
        parts.append(part)
    for number in _numbers(choose, objects):
        following = (number + 1) % objects if number % 10 else 0
        oids = [following, choose.randrange(objects), choose.randrange(objects)]
        pieces = [part + p64(oid) for part, oid in zip(parts, oids, strict=True)]
        yield number, b"".join([*pieces, rest])


def _numbers(choose: random.Random, objects: int) -> Iterator[int]:
    yield from range(objects)
    while True:
        yield choose.randrange(objects)


def build(path: Path, growth: Growth) -> None:
    """Make a file of this length."""
    storage: Any = FileStorage(str(path), create=True, commit_sync="single")
    objects = growth.objects
    source = islice(records(objects), objects if growth.more_objects else None)
    serials: dict[int, bytes] = {}
    while growth.more_objects or storage.getSize() < growth.length:
        batch = dict(islice(source, BATCH))
        if not batch:
            break
        transaction = TransactionMetaData()
        storage.tpc_begin(transaction)
        for number, data in batch.items():
            storage.store(p64(number), serials.get(number, z64), data, "", transaction)
        storage.tpc_vote(transaction)
        tid = storage.tpc_finish(transaction)
        if not growth.more_objects:
            serials.update(dict.fromkeys(batch, tid))
    storage.close()


@cache
def peaks(growth: Growth) -> dict[str, float]:
    """Return the peak memory in MB of opening such a file without an index and packing it."""
    with tempfile.TemporaryDirectory() as directory:
        empty, path = Path(directory) / "Empty.fs", Path(directory) / "Data.fs"
        build(path, growth)
        Path(f"{path}.index").unlink()
        return {what: _peak(what, empty, path) for what in ("open", "pack")}


def _peak(what: str, empty: Path, path: Path) -> float:
    measured = subprocess.run(  # noqa: S603 -- this program
        [sys.executable, "-c", CHILD, what, str(empty), str(path)],
        capture_output=True,
        check=True,
        text=True,
    )
    return float(measured.stdout)
