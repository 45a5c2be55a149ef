"""Blobs larger than the memory that either side takes for them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import transaction
import ZODB
import ZODB.blob

from programs import ZRS, Program, free_port, running
from replicas.waiting import wait_until
from zc.zrs.engine import open_file_storage

MEBIBYTE = 1 << 20
LENGTH = 200 * MEBIBYTE
ALLOWED = 64 * MEBIBYTE
"""How much the memory of a process may grow while the blob is replicated."""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the system does not tell how much memory"
)


def peak_memory(program: Program) -> int:
    """Return the most memory that a process has had, in bytes."""
    status = Path(f"/proc/{program.pid}/status").read_text()
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert found
    return int(found[1]) << 10


def commit_large_blob(path: Path, blob_dir: Path) -> None:
    """Commit a blob of zeros, of which the disk holds only the length."""
    db = ZODB.DB(open_file_storage(str(path), blob_dir=str(blob_dir)))
    source = path.with_suffix(".source")
    with source.open("wb") as file:
        file.truncate(LENGTH)
    with db.transaction() as connection:
        connection.root()["blob"] = blob = ZODB.blob.Blob()
        blob.consumeFile(str(source))
    transaction.abort()
    db.close()


def test_a_large_blob_takes_little_memory(tmp_path: Path) -> None:
    port = free_port()
    paths = {name: tmp_path / f"{name}.fs" for name in ("primary", "secondary")}
    blobs = {name: tmp_path / f"{name}.blobs" for name in paths}
    address = f"127.0.0.1:{port}"
    commands = {
        name: [*ZRS, name, paths[name], option, address, "--blob-dir", blobs[name]]
        for name, option in (("primary", "--listen"), ("secondary", "--from"))
    }
    commit_large_blob(paths["primary"], blobs["primary"])
    with (
        running([*commands["secondary"], "--reconnect-delay", "0.1"], tmp_path / "log") as copy,
    ):
        copy.wait_for("replicating from")
        before = peak_memory(copy)
        with running(commands["primary"], tmp_path / "log") as primary:
            primary.wait_for("replication on")
            at_first = peak_memory(primary)
            length = paths["primary"].stat().st_size
            wait_until(lambda: paths["secondary"].stat().st_size == length)
            grown = peak_memory(copy) - before, peak_memory(primary) - at_first
            assert primary.end() == 0
        assert copy.end() == 0
    (arrived,) = blobs["secondary"].rglob("0x*.blob")
    assert arrived.stat().st_size == LENGTH
    assert max(grown) < ALLOWED, f"the secondary and the primary have grown by {grown} bytes"
