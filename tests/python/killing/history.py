"""A history of numbered transactions, each determined by its number.

So the expected contents of a file follow from it, and a process can continue where another one
was killed.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from ZODB.Connection import TransactionMetaData
from ZODB.utils import p64, z64

OBJECTS = 30
BLOBS = 3
_PLAIN = b"\x80\x03cpersistent.list\nPersistentList\n."
_BLOB = b"\x80\x03cZODB.blob\nBlob\n.\x80\x03N."


def oids(number: int) -> list[bytes]:
    """Return the objects that a transaction changes; the first one changes all."""
    if number == 0:
        return [p64(at) for at in range(OBJECTS)]
    chosen = random.Random(number).sample(range(OBJECTS - BLOBS), number % 7 + 1)  # noqa: S311
    if number % 4 == 0:
        chosen.append(OBJECTS - 1 - number % BLOBS)
    return [p64(at) for at in sorted(chosen)]


def is_blob(oid: bytes) -> bool:
    """Return whether an object is a blob."""
    return int.from_bytes(oid, "big") >= OBJECTS - BLOBS


def record(oid: bytes, number: int) -> bytes:
    """Return an object's record in a transaction; the root refers to all objects."""
    if is_blob(oid):
        return _BLOB
    size = (0, 10, 300, 3000, 30000)[(oid[-1] + number) % 5]
    state = (
        b"J" + number.to_bytes(4, "little") + b"B" + size.to_bytes(4, "little") + bytes(size)
    )
    if oid == z64:
        state += b"".join(b"C\x08" + p64(at) + b"Q" for at in range(1, OBJECTS))
    return _PLAIN + b"\x80\x03](" + state + b"e."


def blob_content(oid: bytes, number: int) -> bytes:
    """Return a blob's content in a transaction."""
    return b"%s %d " % (oid.hex().encode(), number) * (number % 1000)


def commit(storage: Any, number: int, serials: dict[bytes, bytes], uploads: Path) -> None:
    """Commit the transaction with this number; `serials` are those of the objects."""
    transaction = TransactionMetaData(description=str(number))
    storage.tpc_begin(transaction)
    changed = oids(number)
    for oid in changed:
        serial, data = serials.get(oid, z64), record(oid, number)
        if is_blob(oid):
            path = uploads / f"{number}-{oid.hex()}"
            path.write_bytes(blob_content(oid, number))
            storage.storeBlob(oid, serial, data, str(path), "", transaction)
        else:
            storage.store(oid, serial, data, "", transaction)
    storage.tpc_vote(transaction)
    tid = storage.tpc_finish(transaction)
    serials.update(dict.fromkeys(changed, tid))


def last_number(storage: Any) -> int:
    """Return the number of the last transaction, or -1."""
    numbers = [int(transaction.description) for transaction in storage.iterator()]
    assert numbers == sorted(set(numbers)), "transactions are out of order"
    return numbers[-1] if numbers else -1


def current_serials(storage: Any) -> dict[bytes, bytes]:
    """Return the serials of all objects."""
    oids = [p64(at) for at in range(len(storage))]
    return {oid: storage.load(oid)[1] for oid in oids}


def check(storage: Any) -> int:
    """Check the complete state after the last transaction; return its number."""
    last = last_number(storage)
    if last < 0:
        assert len(storage) == 0
        return last
    current: dict[bytes, int] = {}
    for number in range(last + 1):
        current.update(dict.fromkeys(oids(number), number))
    assert len(storage) == OBJECTS
    for oid, number in current.items():
        data, serial = storage.load(oid)
        assert data == record(oid, number), f"object {oid.hex()} is not that of {number}"
        if is_blob(oid):
            content = Path(storage.loadBlob(oid, serial)).read_bytes()
            assert content == blob_content(oid, number), f"blob {oid.hex()} of {number}"
    for transaction in storage.iterator():
        number = int(transaction.description)
        changed = {found.oid: found.data for found in transaction}
        assert changed.keys() <= set(oids(number))
        assert all(data == record(oid, number) for oid, data in changed.items())
    return last
