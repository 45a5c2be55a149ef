"""ZODB's FileStorage opens our files after power cuts.

The Rust tests in crates/storage/tests/core/crash make the images, and open each with our
storage.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError
from ZODB.utils import z64

ROOT = Path(__file__).parents[3]
# The options of the Makefile, so that nothing is compiled twice.
EXPORT = [
    *("cargo", "test", "--quiet", "--locked", "-p", "zrs-storage", "--test", "core"),
    *("--", "--ignored", "--exact", "crash::export::export_images"),
]


@pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo, which runs the Rust tests")
@pytest.mark.timeout(1200)  # it may have to compile
def test_zodb_opens_what_power_cuts_leave(tmp_path: Path) -> None:
    environment = {**os.environ, "ZRS_CRASH_IMAGES": str(tmp_path)}
    subprocess.run(EXPORT, cwd=ROOT, env=environment, check=True)
    images = sorted(tmp_path.iterdir(), key=lambda image: int(image.name))
    assert len(images) > 50
    for image in images:
        allowed = json.loads((image / "allowed.json").read_text())
        check(image / "Data.fs", allowed["states"], allowed["label"])


def check(path: Path, states: list[dict[str, Any]], label: str) -> None:
    """Open a file; it must have one of the states."""
    try:
        storage = open_storage(path)
    except Exception as error:
        raise AssertionError(f"{label}: {error!r}") from error
    # ZODB still reports a transaction that it has just cut off as the last one.
    last = max((transaction.tid for transaction in storage.iterator()), default=z64).hex()
    matching = [state for state in states if state["tid"] == last]
    assert matching, f"{label}: last transaction {last}"
    shown = {oid.hex(): load(storage, oid) for oid in storage._index}
    # A pack that may or may not have finished changes which objects exist.
    matching = [state for state in matching if state["objects"] == shown]
    assert matching, label
    for name, content in matching[0]["blobs"].items():
        # Paths have a directory for each of an oid's eight bytes, then the tid.
        *directories, file = Path(name).parts
        oid = bytes(int(byte, 16) for byte in directories)
        found = storage.loadBlob(oid, bytes.fromhex(file[2:18]))
        assert Path(found).read_bytes().hex() == content, f"{label}: {name}"
    for transaction in storage.iterator():
        for record in transaction:
            if record.data is not None:
                assert storage.loadSerial(record.oid, record.tid) == record.data
    storage.close()


def open_storage(path: Path) -> Any:
    """Open a file, with its blobs if it has some."""
    blobs = path.with_name("blobs")
    if not blobs.exists():
        return FileStorage(str(path))
    (blobs / ".layout").write_text("bushy")
    return FileStorage(str(path), blob_dir=str(blobs))


def load(storage: Any, oid: bytes) -> str | None:
    """Return an object's data in hexadecimal digits, or `None`."""
    try:
        data: bytes = storage.load(oid)[0]
    except POSKeyError:
        return None
    return data.hex()
