"""The order of a process's system calls, recorded by `strace`.

The sweeps over simulated disks (crates/storage/tests/core/crash) show that this order suffices.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

CALLS = "fsync,fdatasync,rename,mkdir,write,pwrite64"
_LINE = re.compile(r"(\w+)\((.*)\) += \d+$")
_OPEN_FILE = re.compile(r"\d+<(.*?)>")

LIVE = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from ZODB.serialize import referencesf
from killing import history
from zc.zrs.filestorage import FileStorage

directory = Path(sys.argv[1])
uploads = directory / "uploads"
uploads.mkdir()
storage = FileStorage(str(directory / "Data.fs"), blob_dir=str(directory / "new" / "blobs"))
serials = {}
for number in range(10):
    history.commit(storage, number, serials, uploads)
storage.pack(time.time(), referencesf)
storage.close()
"""


class Call(NamedTuple):
    name: str
    path: Path
    argument: str
    """The rest of the arguments."""


def test_files_are_synced_in_the_required_order(tmp_path: Path) -> None:
    calls = trace(tmp_path)
    top, data = tmp_path / "new" / "blobs", tmp_path / "Data.fs"
    finished = [at for at, call in enumerate(calls) if is_status_byte(call, data)]
    moved = [at for at, call in enumerate(calls) if call.argument.endswith('.blob"')]
    blobs = [at for at in moved if f'"{top}/' in calls[at].argument]
    assert (len(finished), len(blobs)) == (10, 3 + 2)

    # The blob directory is durable before the first transaction.
    assert synced(calls, top / ".layout", 0, finished[0])
    assert all(synced(calls, above, 0, finished[0]) for above in (top, top.parent, tmp_path))
    # A blob's file and all its parent directories, before its transaction.
    for renamed in blobs:
        place = Path(calls[renamed].argument.strip('", '))
        before = next(at for at in finished if at > renamed)
        leading = [place, *(above for above in place.parents if top in {above, *above.parents})]
        assert len(leading) == 1 + 8 + 1
        assert all(synced(calls, path, renamed, before) for path in leading)
    # Data before their status, and the status before the next transaction.
    for at in finished:
        assert [call.name for call in calls[at - 1 : at + 2]] == [
            "fdatasync",
            "pwrite64",
            "fdatasync",
        ]
        assert {call.path for call in calls[at - 1 : at + 2]} == {data}
    # A renamed file is durable before the rename, and its name afterwards.
    renames = [at for at, call in enumerate(calls) if call.name == "rename" and at not in moved]
    assert {calls[at].path.suffix for at in renames} == {".tmp", ".index_tmp", ".pack"}
    for at in renames:
        last_write = max(when for when in writes(calls, calls[at].path) if when < at)
        assert synced(calls, calls[at].path, last_write, at)
        assert synced(calls, tmp_path, at, at + 2)


def trace(directory: Path) -> list[Call]:
    """Return the system calls of a process that commits, packs and closes."""
    if shutil.which("strace") is None:
        pytest.skip("system calls are recorded by strace")
    output = directory / "trace"
    arguments = ["strace", "-f", "-y", "-e", f"trace={CALLS}", "-o", str(output)]
    tests = str(Path(__file__).parents[1])
    program = [sys.executable, "-c", LIVE, str(directory), tests]
    if subprocess.run([*arguments, "true"], check=False).returncode:
        pytest.skip("strace is not allowed to trace here")
    subprocess.run([*arguments, *program], check=True)
    calls = []
    for line in output.read_text().splitlines():
        if (found := _LINE.search(line)) and str(directory) in line:
            first, _, rest = found[2].partition(",")
            opened = _OPEN_FILE.match(first)
            calls.append(Call(found[1], Path(opened[1] if opened else first.strip('"')), rest))
    return calls


def is_status_byte(call: Call, data: Path) -> bool:
    return (
        call.name == "pwrite64" and call.path == data and call.argument.startswith(' " ", 1,')
    )


def synced(calls: list[Call], path: Path, start: int, stop: int) -> bool:
    """Return whether a file or directory is synced between two calls."""
    return any(
        call.path == path and call.name in {"fsync", "fdatasync"}
        for call in calls[start + 1 : stop]
    )


def writes(calls: list[Call], path: Path) -> list[int]:
    return [
        at
        for at, call in enumerate(calls)
        if call.path == path and call.name in {"write", "pwrite64"}
    ]
