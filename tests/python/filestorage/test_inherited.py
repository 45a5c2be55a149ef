"""A FileStorage in a forked process: it reads, and leaves the file to its parent."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from replicas.processes import run

if TYPE_CHECKING:
    from pathlib import Path

PARENT = """
import ZODB.utils
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import StorageSystemError
from ZODB.serialize import referencesf
from ZODB.utils import p64, z64
from filestorage.committing import commit as commit_records
from replicas.transactions import read_transactions
from zc.zrs.filestorage import FileStorage
import zc.lockfile

DATA = b"N.N."
path = directory / "Data.fs"
storage = FileStorage(str(path), blob_dir=str(directory / "blobs"))
for number in range(5):
    commit_records(storage, {z64: DATA * (number + 1)})

def refused(call, *arguments):
    try:
        call(*arguments)
    except StorageSystemError as error:
        assert "forked" in str(error) and str(path) in str(error), error
    else:
        raise AssertionError(f"{call} was not refused")

def fork(child):
    pid = os.fork()
    if not pid:
        status = 1
        try:
            child()
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
"""
END = """
commit_records(storage, {z64: b"parent" * 100})
files = {found.name for found in directory.iterdir()}
assert {"Data.fs", "Data.fs.lock"} <= files, files
storage.close()
assert len(read_transactions(path)) == 6
again = FileStorage(str(path))
assert again._used_index
again.close()
say("good")
"""


@pytest.mark.parametrize(
    "child",
    [
        """
        refused(commit_records, storage, {p64(1): b"child" * 1000})
        """,
        """
        refused(storage.pack, 2.0**32, referencesf)
        refused(storage.new_oid)
        refused(storage._save_index)
        refused(storage.cleanup)
        refused(storage._commit_lock.acquire)
        """,
        """
        assert storage.load(z64)[0] == DATA * 5
        assert storage.loadBefore(z64, storage.lastTransaction())[0] == DATA * 4
        assert len(list(storage.iterator())) == 5
        assert len(storage.history(z64, size=10)) == 5
        """,
        """
        storage.close()
        storage.close()
        """,
        """
        # The parent's lock lasts, for this process as well.
        storage.close()
        try:
            FileStorage(str(path))
        except zc.lockfile.LockError:
            pass
        else:
            raise AssertionError("there are two writers")
        """,
        """
        own = FileStorage(str(directory / "own.fs"))
        commit_records(own, {z64: b"child"})
        own.close()
        os.remove(directory / "own.fs")
        """,
    ],
    ids=["commit", "others", "read", "close", "lock", "own"],
)
def test_a_child(tmp_path: Path, child: str) -> None:
    source = f"def child():\n{textwrap.indent(textwrap.dedent(child), '    ')}\nfork(child)\n"
    assert run(PARENT + source + END, tmp_path) == "good\n"


def test_a_transaction_goes_on_in_the_parent_only(tmp_path: Path) -> None:
    source = """
meta = TransactionMetaData()
storage.tpc_begin(meta)
storage.store(z64, storage.getTid(z64), b"large" * 4_000_000, "", meta)

def child():
    refused(storage.store, p64(1), z64, b"child" * 4_000_000, "", meta)
    refused(storage.tpc_vote, meta)
    refused(storage.tpc_finish, meta)
    storage.tpc_abort(meta)
    storage.close()

fork(child)
storage.tpc_vote(meta)
fork(child)
storage.tpc_finish(meta)
assert storage.load(z64)[0] == b"large" * 4_000_000
storage.close()
assert len(read_transactions(path)) == 6
say("good")
"""
    assert run(PARENT + source, tmp_path) == "good\n"


def test_a_fork_while_other_threads_commit(tmp_path: Path) -> None:
    source = """
import warnings
warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
stop = threading.Event()
committed = []

def write():
    while not stop.is_set():
        commit_records(storage, {p64(1): b"thread" * 1000})
        committed.append(1)

threads = [threading.Thread(target=write) for _ in range(2)]
for thread in threads:
    thread.start()

def child():
    refused(commit_records, storage, {p64(2): b"child"})
    storage.close()

for _ in range(50):
    fork(child)
stop.set()
for thread in threads:
    thread.join()
storage.close()
assert len(read_transactions(path)) == 5 + len(committed)
say("good")
"""
    assert run(PARENT + source, tmp_path) == "good\n"
