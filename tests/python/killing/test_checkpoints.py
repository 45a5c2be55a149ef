"""The index is saved while the file grows, so a kill does not cause a long scan."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ZODB.FileStorage

from zc.zrs.filestorage import FileStorage

MIB = 1 << 20
# Sizes before and after the index is saved: above the limit of 64 MiB, and below.
BEFORE, AFTER = 66, 3

GROW = """
import sys, time
from ZODB.Connection import TransactionMetaData
from ZODB.utils import p64, z64
from zc.zrs.filestorage import FileStorage

path, before, after = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
storage = FileStorage(path)

def commit(numbers):
    meta = TransactionMetaData()
    storage.tpc_begin(meta)
    for number in numbers:
        storage.store(p64(number), z64, bytes([number]) * (1 << 20), "", meta)
    storage.tpc_vote(meta)
    return storage.tpc_finish(meta)

saved = storage._saved
commit(range(before))
while storage._saved == saved:
    time.sleep(0.01)
for number in range(before, before + after):
    last = commit([number])
print(last.hex(), flush=True)
time.sleep(600)
"""

# Linux counts the bytes of `read` calls, whether they were cached or not.
OPEN = """
import json, sys
from pathlib import Path
from zc.zrs.filestorage import FileStorage

def read():
    return int(Path("/proc/self/io").read_text().split()[1])

before = read()
storage = FileStorage(sys.argv[1])
print(json.dumps([storage._used_index, storage.lastTransaction().hex(), read() - before]))
"""


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Linux counts what is read")
def test_after_a_kill_only_data_after_the_last_save_are_read(tmp_path: Path) -> None:
    path = tmp_path / "Data.fs"
    last = killed_when_grown(path)
    assert path.stat().st_size > (BEFORE + AFTER) * MIB
    copies = [tmp_path / "scanned.fs", tmp_path / "zodb.fs"]
    for copy in copies:
        shutil.copy(path, copy)
    shutil.copy(f"{path}.index", f"{copies[1]}.index")

    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(path)], capture_output=True, text=True, check=True
    )
    used_index, tid, read = json.loads(done.stdout)
    assert (used_index, tid) == (True, last)
    assert read < (AFTER + 3) * MIB, "more than the end was read"

    scanned = contents(FileStorage, copies[0])
    assert contents(FileStorage, path) == scanned
    zodb = ZODB.FileStorage.FileStorage(str(copies[1]))
    assert zodb._used_index
    assert dict(zodb._index.items()) == scanned
    zodb.close()


def killed_when_grown(path: Path) -> str:
    """Kill a process that has made a storage grow; return its last transaction."""
    arguments = [sys.executable, "-c", GROW, str(path), str(BEFORE), str(AFTER)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        os.kill(process.pid, signal.SIGKILL)
    assert said, "it ended by itself"
    return said


def contents(class_: Any, path: Path) -> dict[bytes, int]:
    """Open and close a storage; return its index."""
    storage = class_(str(path))
    found = dict(storage._index_items())
    storage.close()
    return found
