"""Blobs larger than the memory that either side uses for them."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

import pytest
import transaction
import ZODB
import ZODB.blob

from certificates.making import Authority
from programs import ZRS, Program, free_port, running
from replicas.processes import program, read_line
from replicas.waiting import wait_until
from zc.zrs.storages.engine import open_file_storage

MEBIBYTE = 1 << 20
LENGTH = 300 * MEBIBYTE
ALLOWED = 64 * MEBIBYTE
"""How much the memory of a process may grow while the blob is replicated."""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is read from /proc"
)


def peak_memory(program: Program) -> int:
    """Return the peak memory of a process in bytes."""
    status = Path(f"/proc/{program.pid}/status").read_text()
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert found
    return int(found[1]) << 10


def commit_large_blob(path: Path, blob_dir: Path) -> None:
    """Commit a blob of zeros, as a sparse file."""
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


SIDE = """
import re
from ZODB.blob import BlobStorage
from zc.zrs.storages.engine import open_file_storage
from zc.zrs.tls import TLSFiles

side, engine, layers, option, port, certificate, key, authority = sys.argv[2:]
path, blobs = str(directory / f"{side}.fs"), str(directory / f"{side}.blobs")
if layers == "BlobStorage":
    storage = BlobStorage(blobs, open_file_storage(path, engine))
elif side == "secondary" and option == "none":
    storage = open_file_storage(path, engine)
else:
    storage = open_file_storage(path, engine, blob_dir=blobs)
options = {}
if certificate:
    options["ssl"] = TLSFiles(certificate, key, authenticate=authority)

def peak():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1]) << 10

if side == "primary":
    replica = Primary(storage, ("localhost", int(port)), **options)
else:
    options |= {"blobs": option, "reconnect_delay": 0.1}
    replica = Secondary(storage, ("localhost", int(port)), **options)
before = peak()
say("open")
sys.stdin.readline()
say(peak() - before)
if side == "secondary":
    assert replica.status()["tls"] == bool(certificate)
replica.close()
"""


@pytest.mark.parametrize(
    ("engine", "layers", "option", "tls"),
    [
        ("rust", "blob_dir", "all", True),
        ("python", "blob_dir", "all", False),
        ("rust", "BlobStorage", "all", False),
        ("python", "BlobStorage", "all", True),
        ("rust", "blob_dir", "none", False),
    ],
)
def test_on_every_storage(
    tmp_path: Path, engine: str, layers: str, option: str, *, tls: bool
) -> None:
    """An unwanted blob leaves nothing behind and takes no more memory."""
    paths = {name: tmp_path / f"{name}.fs" for name in ("primary", "secondary")}
    commit_large_blob(paths["primary"], tmp_path / "primary.blobs")
    authority = Authority(tmp_path, "authority")
    certificate = (*map(str, authority.issue()), str(authority.path)) if tls else ("", "", "")
    arguments = (engine, layers, option, str(free_port()), *certificate)
    with ExitStack() as stack:
        sides = {}
        for name in paths:
            process = stack.enter_context(program(SIDE, tmp_path, name, *arguments))
            assert read_line(process) == "open"
            sides[name] = process
        length = paths["primary"].stat().st_size
        wait_until(lambda: paths["secondary"].stat().st_size == length)
        grown = {}
        # The primary last, because its end closes the secondary's connection.
        for name in "secondary", "primary":
            output, errors = sides[name].communicate("end\n", timeout=60)
            assert (sides[name].returncode, errors) == (0, "")
            grown[name] = int(output)
    arrived = [found.stat().st_size for found in tmp_path.glob("secondary.blobs/**/0x*.blob")]
    assert arrived == ([LENGTH] if option == "all" else [])
    assert max(grown.values()) < ALLOWED, grown
