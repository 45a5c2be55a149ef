"""Readers, commits and packs at the same time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from ZODB.Connection import TransactionMetaData
from ZODB.serialize import referencesf
from ZODB.utils import maxtid, p64, z64

from filestorage.committing import commit, current, data_before, store
from zc.zrs.filestorage import FileStorage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OIDS = [p64(number) for number in range(8)]


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[FileStorage]:
    storage = FileStorage(str(tmp_path / "Data.fs"), create=True)
    yield storage
    storage.close()


class Worker(threading.Thread):
    """A thread whose exception is raised again in `finish`."""

    def __init__(self, work: Any) -> None:
        super().__init__(daemon=True)
        self.work = work
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001 (raised again)
            self.error = error

    def finish(self) -> None:
        self.join(60)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error


def test_no_reader_sees_half_a_transaction(storage: FileStorage) -> None:
    """Each transaction writes its number to all objects, and readers find equal numbers."""
    done = threading.Event()
    commit(storage, dict.fromkeys(OIDS, b"0"))

    def read() -> None:
        while not done.is_set():
            at = p64(int.from_bytes(storage.lastTransaction(), "big") + 1)
            found = {data_before(storage, oid, at) for oid in OIDS}
            assert len(found) == 1

    readers = [Worker(read) for _ in range(3)]
    for number in range(1, 200):
        commit(storage, dict.fromkeys(OIDS, str(number).encode()))
    done.set()
    for reader in readers:
        reader.finish()


def test_packs_during_commits_lose_nothing(storage: FileStorage) -> None:
    done = threading.Event()
    commit(storage, dict.fromkeys(OIDS, b"0"))

    def pack() -> None:
        while not done.is_set():
            storage.pack(time.time(), referencesf, gc=False)

    packer = Worker(pack)
    tids = [commit(storage, dict.fromkeys(OIDS, str(n).encode())) for n in range(200)]
    done.set()
    packer.finish()
    assert storage.lastTransaction() == tids[-1]
    assert {storage.load(oid) for oid in OIDS} == {(b"199", tids[-1])}


def test_the_callback_of_a_finish_reads_and_others_wait(storage: FileStorage) -> None:
    """Reads of other threads wait until the transaction is visible."""
    before = commit(storage, {z64: b"before"})
    transaction = TransactionMetaData()
    storage.tpc_begin(transaction)
    store(storage, {z64: b"after"}, transaction)
    storage.tpc_vote(transaction)
    elsewhere: list[Any] = []

    def read_elsewhere() -> None:
        elsewhere.extend((storage.load(z64), storage.lastTransaction()))

    readers: list[Worker] = []

    def callback(tid: bytes) -> None:
        assert tid > before
        assert storage.load(z64) == (b"before", before)
        assert storage.lastTransaction() == before
        readers.append(Worker(read_elsewhere))
        time.sleep(0.2)
        assert elsewhere == []

    tid = storage.tpc_finish(transaction, callback)
    readers[0].finish()
    assert elsewhere == [(b"after", tid), tid]


def test_a_callback_that_fails_aborts(storage: FileStorage, tmp_path: Path) -> None:
    before = commit(storage, {z64: b"before"})
    content = (tmp_path / "Data.fs").read_bytes()
    transaction = TransactionMetaData()
    storage.tpc_begin(transaction)
    store(storage, {z64: b"after"}, transaction)
    storage.tpc_vote(transaction)

    def callback(_tid: bytes) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        storage.tpc_finish(transaction, callback)
    assert storage.load(z64) == (b"before", before)
    assert (tmp_path / "Data.fs").read_bytes() == content
    commit(storage, {z64: b"later"})
    assert storage.load(z64)[0] == b"later"


def test_a_second_commit_waits_for_the_first(storage: FileStorage) -> None:
    first = TransactionMetaData()
    storage.tpc_begin(first)
    second = Worker(lambda: commit(storage, {z64: b"second"}))
    time.sleep(0.2)
    assert storage.tpc_transaction() is first
    store(storage, {z64: b"first"}, first)
    storage.tpc_vote(first)
    tid = storage.tpc_finish(first)
    second.finish()
    assert current(storage, z64) > tid
    assert data_before(storage, z64, current(storage, z64)) == b"first"
    assert data_before(storage, z64, maxtid) == b"second"


@pytest.mark.skipif(os.name != "posix", reason="signals are sent to processes")
def test_control_c_ends_a_wait_for_the_commit_lock(tmp_path: Path) -> None:
    program = """
        import sys
        from ZODB.Connection import TransactionMetaData
        from zc.zrs.filestorage import FileStorage
        storage = FileStorage(sys.argv[1])
        storage.tpc_begin(TransactionMetaData())
        print("waiting", flush=True)
        try:
            storage.tpc_begin(TransactionMetaData())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "Data.fs")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert out == "interrupted\n"
