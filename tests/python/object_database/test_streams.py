"""Stored streams: those that can be read only once, slow ones, and failing ones."""

from __future__ import annotations

import io
import os
import tempfile
import threading
from typing import TYPE_CHECKING, Any

import pytest
import transaction
from transaction.interfaces import TransientError

from dobbin._files import IN_MEMORY
from dobbin.persistent import PersistentDict, PersistentFile, checkout
from object_database.things import Thing, change, elect
from object_database.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from dobbin.database import Database

DATA = os.urandom(2 * IN_MEMORY)


class Once:
    """A stream that can be read only once, such as the body of a request."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)


class Slow:
    """A stream whose sender continues when the test says so."""

    def __init__(self) -> None:
        self.reading, self.go_on = threading.Event(), threading.Event()
        self._rest = [b"begin ", b"end", b""]

    def read(self, _size: int) -> bytes:
        if self._rest[0] == b"end":
            self.reading.set()
            assert self.go_on.wait(60)
        return self._rest.pop(0)

    def seekable(self) -> bool:
        return True

    def seek(self, *_: int) -> int:
        raise AssertionError("not at this speed")

    def tell(self) -> int:
        return 0


class Unwilling:
    """A participant that makes the first transaction fail after the database's vote."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        transaction.get().join(self)

    def sortKey(self) -> str:
        return "~~"

    def tpc_vote(self, _transaction: Any) -> None:
        raise self._error

    def abort(self, _transaction: Any) -> None:
        pass

    tpc_begin = commit = tpc_finish = tpc_abort = abort


@pytest.mark.parametrize("length", [10, len(DATA)], ids=["short", "long"])
def test_a_retry_stores_the_whole_of_a_stream_that_cannot_seek(
    db: Database, open_database: Callable[..., Database], length: int
) -> None:
    """The first attempt has read it to its end."""
    root = elect(db, Thing())
    file: Any = PersistentFile(Once(DATA[:length]))
    attempts: list[int] = []

    def work() -> None:
        checkout(root)
        # In a new object, and in a list of it.
        root.new = Thing(files=[file])
        attempts.append(1)
        if len(attempts) == 1:
            Unwilling(TransientError("try again"))

    transaction.manager.run(work)
    assert len(attempts) == 2
    assert b"".join(open_database().root.new.files[0]) == DATA[:length]
    assert root.new.files[0] is file


def test_a_retry_stores_the_whole_of_a_pipe(db: Database) -> None:
    root = elect(db, Thing())
    readable, writable = os.pipe()
    os.write(writable, b"bytes of a pipe")
    os.close(writable)
    with open(readable, "rb") as pipe:  # noqa: PTH123 -- it has no path
        file = PersistentFile(pipe)
        checkout(root)
        root.file = file
        Unwilling(OSError("the other database is down"))
        with pytest.raises(OSError, match="is down"):
            transaction.commit()
        transaction.abort()
        change(root, file=file)
    assert b"".join(root.file) == b"bytes of a pipe"


def test_a_slow_stream_does_not_block_other_commits(
    db: Database, open_database: Callable[..., Database]
) -> None:
    """It is read before the lock of all processes is taken, in new objects too."""
    elect(db, PersistentDict(uploads=PersistentDict(), n=Thing(n=0)))
    other = open_database()
    slow = Slow()
    uploading = Worker()

    def upload() -> None:
        uploads = db.root["uploads"]
        checkout(uploads)
        uploads["slow"] = Thing(file=PersistentFile(slow))
        transaction.commit()

    thread = threading.Thread(target=lambda: uploading.do(upload))
    thread.start()
    assert slow.reading.wait(60)
    for n, instance in enumerate([db, other, db]):
        transaction.begin()
        change(instance.root["n"], n=n)
    assert thread.is_alive()
    slow.go_on.set()
    thread.join()
    uploading.end()
    transaction.begin()
    assert b"".join(other.root["uploads"]["slow"].file) == b"begin end"
    assert other.root["n"].n == 2


def test_a_slow_stream_does_not_block_commits_to_another_database(
    open_database: Callable[..., Database],
) -> None:
    """It is read before the first database of the transaction takes its lock."""
    first, second = open_database("first"), open_database("second")
    first.ensure_root(lambda: Thing(child=Thing()))
    second.ensure_root()
    slow = Slow()
    uploading = Worker()

    def upload() -> None:
        checkout(first.root)
        checkout(second.root)
        first.root.n = 1
        second.root["slow"] = PersistentFile(slow)
        transaction.commit()

    thread = threading.Thread(target=lambda: uploading.do(upload))
    thread.start()
    assert slow.reading.wait(60)
    change(first.root.child, n=1)
    assert thread.is_alive()
    slow.go_on.set()
    thread.join()
    uploading.end()
    assert b"".join(second.root["slow"]) == b"begin end"
    assert (first.root.n, first.root.child.n) == (1, 1)


def test_streams_in_memory_and_regular_files_are_not_copied(
    db: Database, tmp_path: Any
) -> None:
    root = elect(db, Thing())
    (tmp_path / "file").write_bytes(b"12345")
    with (
        (tmp_path / "file").open("rb") as regular,
        tempfile.SpooledTemporaryFile() as spooled,
    ):
        spooled.write(b"12345")
        spooled.seek(0)
        files = [PersistentFile(stream) for stream in (regular, io.BytesIO(b"12345"), spooled)]
        for file in files:
            file.spool()
            assert file._copy is None
        change(root, files=files)
    assert [b"".join(file) for file in root.files] == [b"12345"] * 3


def test_a_stream_without_data_yet_is_not_stored_in_part(db: Database) -> None:
    class NotYet:
        def __init__(self) -> None:
            self._rest = [b"a", None, b"b", b""]

        def read(self, _size: int) -> bytes | None:
            return self._rest.pop(0)

    root = elect(db, Thing())
    count = db.tx_count
    file = PersistentFile(NotYet())
    checkout(root)
    root.file = file
    with pytest.raises(BlockingIOError, match="was not stored"):
        transaction.commit()
    transaction.abort()
    assert not hasattr(root, "file")
    assert db.tx_count == count
    change(root, file=file)
    assert b"".join(root.file) == b"ab"


def test_a_stream_that_fails_prevents_the_commit(db: Database) -> None:
    class Failing:
        rest = (b"begin", b"")

        def read(self, _size: int) -> bytes:
            if not self.rest:
                return b""
            block, *self.rest = self.rest  # type: ignore[assignment]
            if not block:
                raise ConnectionResetError("the sender is gone")
            return block

    root = elect(db, Thing())
    file = PersistentFile(Failing())
    for _ in range(2):
        checkout(root)
        root.file = file
        with pytest.raises(ConnectionResetError):
            transaction.commit()
        transaction.abort()
    change(root, n=1)
    assert root.n == 1
