"""Write small Data.fs files and the results of ZODB's pack.

Run with ZODB 6 installed: ``python make_packs.py DIRECTORY [HISTORIES [SEED]]``. In the
directory, packs.txt has a line for each pack: the file before the pack; the end of its last
transaction when the pack began (later transactions were committed during the pack); the pack
time as a transaction id; ``gc`` or ``all``; and the packed file, ``nothing`` if ZODB finds
nothing to pack, the exception that it raises, or ``wrong`` if data of records after the pack
time changed. The last field has the blobs that ZODB records for removal, or ``-``.

Transaction ids do not depend on the clock, so equal runs write equal files.
"""

import base64
import contextlib
import hashlib
import io
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import zodbpickle.pickle  # type: ignore[import-untyped]
from persistent.mapping import PersistentMapping
from persistent.TimeStamp import TimeStamp
from ZODB.blob import Blob
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileIterator, FileStorage
from ZODB.FileStorage.FileStorage import RedundantPackWarning
from ZODB.FileStorage.format import FileStorageFormatter
from ZODB.FileStorage.fspack import FileStoragePacker
from ZODB.fsIndex import fsIndex
from ZODB.POSException import POSError
from ZODB.serialize import referencesf
from ZODB.utils import p64, z64
from zodbpickle import binary

OBJECTS = 12


class Reference:
    """Stands for a persistent object: pickled as its persistent id."""

    def __init__(self, oid: bytes) -> None:
        self.oid = binary(oid)


def record(cls: type, references: list[bytes], text: str) -> bytes:
    out = io.BytesIO()
    pickler = zodbpickle.pickle.Pickler(out, 3)
    pickler.persistent_id = lambda value: (
        (value.oid, PersistentMapping) if isinstance(value, Reference) else None
    )
    pickler.dump(cls)
    state = (
        None if cls is Blob else {"text": text, "to": [Reference(oid) for oid in references]}
    )
    pickler.dump(state)
    return out.getvalue()


class History:
    """A storage, and random transactions in it."""

    def __init__(self, path: Path, seed: str, *, blobs: bool) -> None:
        self.random = random.Random(seed)  # noqa: S311  it picks test data
        self.path, self.blobs = path, blobs
        self.tids: list[bytes] = []
        self.clock = 0
        self.storage: Any = None

    def open(self, path: Path) -> None:
        self.path = path
        Path(f"{path}.index").unlink(missing_ok=True)
        blob_dir = str(path) + ".blobs" if self.blobs else None
        self.storage = FileStorage(str(path), blob_dir=blob_dir)

    def new_tid(self) -> bytes:
        self.clock += self.random.randrange(1, 50)
        minutes, second = divmod(self.clock, 60)
        return bytes(TimeStamp(2026, 1, 1, minutes // 60, minutes % 60, second).raw())

    def current(self, oid: bytes) -> bytes:
        try:
            return bytes(self.storage.getTid(oid))
        except POSError:
            return bytes(z64)

    def commit(self, *steps: Any) -> None:
        """Commit a transaction of these steps; abort it if one fails."""
        words = ["", "a user", "some description"]
        metadata = TransactionMetaData(
            self.random.choice(words),
            self.random.choice(words),
            self.random.choice([{}, {"extension": 1}]),
        )
        tid = self.new_tid()
        self.storage.tpc_begin(metadata, tid, " ")
        try:
            for step in steps:
                step(metadata)
            self.storage.tpc_vote(metadata)
        except (POSError, KeyError, AssertionError):
            self.storage.tpc_abort(metadata)
        else:
            self.storage.tpc_finish(metadata)
            self.tids.append(tid)

    def store(self, oid: bytes, references: list[bytes]) -> Any:
        text = "x" * self.random.choice([0, 1, 5, 30])
        cls = Blob if self.blobs and oid[-1] % 3 == 2 else PersistentMapping
        data = record(cls, references, text + str(self.random.randrange(3)))
        return lambda metadata: self.storage.store(oid, self.current(oid), data, "", metadata)

    def undo(self, tid: bytes | None = None) -> Any:
        tid = tid or self.random.choice(self.tids[-6:])
        identity = base64.encodebytes(tid).rstrip()
        return lambda metadata: self.storage.undo(identity, metadata)

    def restore(self, oid: bytes) -> Any:
        def step(metadata: Any) -> None:
            history = self.storage.history(oid, 4)
            chosen = self.random.choice(history)["tid"]
            data = self.storage.loadSerial(oid, chosen)
            prev = chosen if self.random.random() < 0.8 else None
            self.storage.restore(oid, self.storage._tid, data, "", prev, metadata)

        return step

    def delete(self, oid: bytes) -> Any:
        return lambda metadata: self.storage.deleteObject(oid, self.current(oid), metadata)

    def oids(self, count: int) -> list[bytes]:
        known = [oid for oid in map(p64, range(OBJECTS)) if self.current(oid) != z64]
        return self.random.sample(known, min(count, len(known))) or [z64]

    def begin(self) -> None:
        first = [p64(1), p64(2)]
        steps = [self.store(z64, first), self.store(first[0], []), self.store(first[1], first)]
        self.commit(*steps)

    def step(self, *, dangling: bool) -> None:
        """Commit one random transaction."""
        chance = self.random.random()
        if chance < 0.45:
            steps = []
            new = self.random.randrange(OBJECTS)
            targets = self.oids(2) + ([p64(new)] if dangling else [])
            # An object that refers to a new one is stored with it.
            if self.current(p64(new)) == z64:
                steps.append(self.store(p64(new), self.oids(1)))
                targets.append(p64(new))
            chosen = self.oids(self.random.randrange(1, 3))
            steps += [self.store(oid, targets) for oid in chosen]
            self.commit(*steps)
        elif chance < 0.9:
            self.commit(*[self.undo() for _ in range(self.random.choice([1, 1, 1, 2]))])
        elif chance < 0.95:
            self.commit(self.restore(*self.oids(1)))
        elif chance < 0.97 and dangling:
            self.commit(self.delete(*self.oids(1)))
        elif chance < 0.98 and dangling:
            oid = self.oids(1)[0]
            self.commit(self.store(oid, []), self.store(oid, []))
        else:
            self.commit()


class Writer:
    """Writes files named by the digest of their contents, and their lines."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lines: list[str] = []

    def keep(self, path: Path) -> str:
        name = hashlib.sha256(path.read_bytes()).hexdigest()[:12] + ".fs"
        if not (self.directory / name).exists():
            shutil.copy(path, self.directory / name)
        return name

    def pack(self, history: History, time: bytes, *, gc: bool, during: int = 0) -> str | None:
        """Pack a copy of the history's file; return the packed file, if any."""
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "Data.fs"
            shutil.copy(history.path, path)
            history.open(path)
            if not history.storage._index:
                # ZODB does not pack an empty storage.
                history.storage.close()
                return None
            packer = FileStoragePacker(history.storage, referencesf, time, gc)
            start = packer.file_end
            for _ in range(during):
                history.step(dangling=False)
            before, removed, packed = self.keep(path), "-", None
            try:
                end = packer.pack()
            except RedundantPackWarning:
                result = "nothing"
            except (POSError, KeyError, AssertionError) as error:
                result = type(error).__name__
            else:
                result = "nothing"
                if end is not None:
                    history.storage._commit_lock.release()
                    packed_path = path.with_suffix(".fs.pack")
                    assert packed_path.stat().st_size == end
                    assert dict(scan(packed_path).items()) == dict(packer.index.items())
                    if says(packed_path, time) == says(path, time):
                        packed = result = self.keep(packed_path)
                    else:
                        result = "wrong"
                    if history.blobs:
                        lines = Path(f"{path}.blobs", ".removed").read_text().split()
                        removed = ",".join(lines) or "-"
            finally:
                packer.close()
            history.storage.close()
        kind = "gc" if gc else "all"
        self.lines.append(f"{before} {start} {time.hex()} {kind} {result} {removed}")
        return packed


def says(path: Path, time: bytes) -> list[Any]:
    """Return the data of the records after a time."""
    with contextlib.closing(FileIterator(str(path))) as transactions:
        return [
            (txn.tid, txn.status, txn.user, [(record.oid, record.data) for record in txn])
            for txn in transactions
            if txn.tid > time
        ]


def scan(path: Path) -> fsIndex:
    """Return the position of each object's last record."""
    index, reader = fsIndex(), FileStorageFormatter()
    with path.open("rb") as reader._file:
        position, end = 4, path.stat().st_size
        while position < end:
            header = reader._read_txn_header(position)
            stop = position + header.tlen
            position += header.headerlen()
            while position < stop:
                data = reader._read_data_header(position)
                index[data.oid] = position
                position += data.recordlen()
            position += 8
    return index


def write_history(writer: Writer, seed: str, *, blobs: bool, dangling: bool) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "Data.fs"
        history = History(path, seed, blobs=blobs)
        chance = history.random
        history.open(path)
        history.begin()
        for _ in range(chance.randrange(4, 14)):
            history.step(dangling=dangling)
        history.storage.close()
        times = [z64.replace(z64[-1:], b"\1"), *history.tids, history.new_tid()]
        for time in chance.sample(times, 2):
            writer.pack(history, time, gc=False)
            history.path = path
        for time in chance.sample(times, min(4, len(times))):
            history.path = path
            clock, tids = history.clock, list(history.tids)
            packed = writer.pack(
                history, time, gc=chance.random() < 0.9, during=chance.choice([0, 0, 2])
            )
            if packed is not None and chance.random() < 0.5:
                # Packed files are packed again, some transactions later.
                again = Path(temporary) / "again.fs"
                shutil.copy(writer.directory / packed, again)
                history.open(again)
                for _ in range(chance.randrange(3)):
                    history.step(dangling=False)
                history.storage.close()
                for later in (time, *chance.sample(history.tids, 2)):
                    history.path = again
                    writer.pack(history, later, gc=True)
            history.clock, history.tids = clock, tids


def write_undo_of_two(writer: Writer) -> None:
    """Undo two transactions at once, which writes two records of an object, and restore it.

    In ZODB's pack the last record points to the first of the two, which has other data.
    """
    with tempfile.TemporaryDirectory() as temporary:
        history = History(Path(temporary) / "Data.fs", "undo of two", blobs=False)
        history.open(history.path)
        history.begin()
        history.begin()
        time = history.tids[-1]
        for references in ([], [p64(1)], [p64(2)]):
            history.commit(history.store(p64(1), references))
        history.commit(*map(history.undo, reversed(history.tids[-2:])))
        history.commit(history.store(p64(1), [z64]))
        history.commit(history.undo(history.tids[-1]))
        history.storage.close()
        writer.pack(history, time, gc=True)


def main() -> None:
    directory = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    seed = sys.argv[3] if len(sys.argv) > 3 else "packs"
    directory.mkdir(parents=True, exist_ok=True)
    writer = Writer(directory)
    for number in range(count):
        write_history(
            writer, f"{seed} {number}", blobs=number % 4 == 3, dangling=number % 3 == 2
        )
    write_undo_of_two(writer)
    (directory / "packs.txt").write_text("".join(f"{line}\n" for line in writer.lines))


if __name__ == "__main__":
    main()
