"""Numbers at the ends of their ranges: object ids, and positions in damaged records."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from ZODB.FileStorage.FileStorage import FileStorageError
from ZODB.FileStorage.format import CorruptedError
from ZODB.POSException import POSKeyError
from ZODB.serialize import referencesf
from ZODB.utils import p64, z64

from filestorage.committing import commit
from zc.zrs.filestorage import FileStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DATA = b"N.N."
HIGHEST = b"\xff" * 8
# Offsets of the fields in a data record header.
FIELDS = {"prev": 16, "tloc": 24, "length": 34, "back": 42}


def test_no_object_id_follows_the_highest(tmp_path: Path) -> None:
    storage = FileStorage(str(tmp_path / "Data.fs"))
    commit(storage, {z64: DATA})
    storage.set_max_oid(b"\xff" * 7 + b"\xfe")
    assert storage.new_oid() == HIGHEST
    for _ in range(2):
        with pytest.raises(FileStorageError, match="no object id after 0xffffffffffffffff"):
            storage.new_oid()
    commit(storage, {HIGHEST: DATA})
    storage.close()
    storage = FileStorage(str(tmp_path / "Data.fs"))
    with pytest.raises(FileStorageError):
        storage.new_oid()
    storage.close()


def iterate(storage: Any) -> None:
    for transaction in storage.iterator():
        list(transaction)


READS: dict[str, Callable[[Any], object]] = {
    "load": lambda storage: storage.load(z64),
    "before": lambda storage: storage.loadBefore(z64, storage.lastTransaction()),
    "serial": lambda storage: storage.loadSerial(z64, b"\0" * 7 + b"\1"),
    "history": lambda storage: storage.history(z64, size=10),
    "iterator": iterate,
    "pack": lambda storage: storage.pack(2.0**32, referencesf),
    "load-back": lambda storage: storage._load_back(z64, 2**63 + 4),
}


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [2**63 - 3, 2**63, 2**64 - 1, 2**62, 2**40])
def test_a_position_beyond_all_files_is_damage(tmp_path: Path, field: str, value: int) -> None:
    path = tmp_path / "Data.fs"
    storage = FileStorage(str(path))
    positions = []
    for number in range(3):
        commit(storage, {z64: DATA * (number + 1)})
        positions.append(storage._lookup_pos(z64))
    # The last transaction is read when the file is opened.
    commit(storage, {p64(1): DATA})
    storage.close()
    content = bytearray(path.read_bytes())
    offset = positions[-1] + FIELDS[field]
    content[offset : offset + 8] = p64(value)
    if field == "back":
        # A record with a backpointer instead of data.
        start = positions[-1] + FIELDS["length"]
        content[start : start + 8] = z64
    path.write_bytes(content)
    damaged = 0
    for read in READS.values():
        storage = FileStorage(str(path), read_only=read is not READS["pack"])
        try:
            with suppress(POSKeyError):
                read(storage)
        except CorruptedError:
            damaged += 1
        finally:
            storage.close()
    assert damaged
