"""Comparing a secondary's data with its primary's."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ZODB.serialize import referencesf
from ZODB.utils import z64

from replicas.transactions import Transaction, current_records, read_transactions

if TYPE_CHECKING:
    from pathlib import Path

MAGIC_LENGTH = 4
TRANSACTION_HEADER = struct.Struct(">8sQc")  # tid, length and status
LENGTH = struct.Struct(">Q")


def assert_identical(primary: Path, secondary: Path) -> None:
    """Fail unless the files are equal byte for byte, as is required without packs."""
    assert_same_transactions(primary, secondary)
    assert primary.read_bytes() == secondary.read_bytes()


def assert_same_transactions(primary: Path, secondary: Path) -> None:
    """Fail unless both files have the same transactions."""
    expected, found = read_transactions(primary), read_transactions(secondary)
    assert [t.tid for t in found] == [t.tid for t in expected]
    assert found == expected


def assert_prefix(primary: Path, secondary: Path) -> int:
    """Fail unless the secondary has a prefix of the primary's transactions; return its length.

    The same must hold for the bytes of the files.
    Bytes after the secondary's last finished transaction are ignored: they belong to a
    transaction that is being written.
    """
    found = read_transactions(secondary)
    expected = read_transactions(primary)
    assert [t.tid for t in found] == [t.tid for t in expected][: len(found)]
    assert found == expected[: len(found)]
    length = finished_length(found)
    assert secondary.read_bytes()[:length] == primary.read_bytes()[:length]
    return len(found)


def assert_prefix_of_live_file(primary: Path, secondary: Path) -> None:
    """Fail unless the secondary's finished transactions are a prefix of the primary's file.

    Both files may be in use.
    """
    data = secondary.read_bytes()
    length = _finished_prefix(data)
    assert data[:length] == primary.read_bytes()[:length]


def _finished_prefix(data: bytes) -> int:
    """Return the end of the last complete and finished transaction."""
    end = MAGIC_LENGTH
    while len(data) >= end + TRANSACTION_HEADER.size:
        _, length, status = TRANSACTION_HEADER.unpack_from(data, end)
        again = data[end + length : end + length + LENGTH.size]
        if status == b"c" or again != LENGTH.pack(length):
            break
        end += length + LENGTH.size
    return end


def assert_at_least(primary: Path, secondary: Path) -> None:
    """Fail unless the secondary has all data of its packed primary.

    Packs are not replicated, so the secondary keeps more. It must have every transaction that
    the primary still has, with all records and their data. Current data, which applications
    read, must be equal.
    """
    expected, found = read_transactions(primary), read_transactions(secondary)
    by_tid = {transaction.tid: transaction for transaction in found}
    for transaction in expected:
        copy = by_tid.get(transaction.tid)
        assert copy is not None, f"the secondary lacks transaction {transaction.tid.hex()}"
        assert _metadata(copy) == _metadata(transaction)
        missing = _contents(transaction) - _contents(copy)
        assert not missing, f"the secondary lacks records {missing}"
    current = current_records(found)
    for oid, record in current_records(expected).items():
        assert current[oid] == record
    # The last transactions are equal, so neither side has more.
    if expected and found:
        assert found[-1].tid >= expected[-1].tid


def assert_same_for_applications(primary: Path, secondary: Path) -> None:
    """Fail unless applications see the same data in both packed files.

    Garbage and old revisions differ, depending on when each file was packed.
    """
    expected, found = read_transactions(primary), read_transactions(secondary)
    ours, theirs = current_records(found), current_records(expected)
    assert {oid: ours[oid] for oid in ours if oid in theirs} == {
        oid: theirs[oid] for oid in theirs if oid in ours
    }
    assert _reachable(theirs) <= ours.keys()
    assert _reachable(theirs) == _reachable(ours)


def _reachable(current: dict[bytes, tuple[bytes, bytes | None]]) -> set[bytes]:
    """Return all objects that are reachable from the root, including missing ones."""
    found: set[bytes] = set()
    pending = [z64] if z64 in current else []
    while pending:
        oid = pending.pop()
        if oid not in found:
            found.add(oid)
            _, data = current.get(oid, (None, None))
            pending += referencesf(data) if data else []
    return found


def _contents(transaction: Transaction) -> set[tuple[bytes, bytes | None]]:
    return {(record.oid, record.data) for record in transaction.records}


def _metadata(transaction: Transaction) -> tuple[bytes, bytes, bytes]:
    # Without the status, because a pack marks the transactions that it keeps.
    return transaction.user, transaction.description, transaction.extension


def finished_length(transactions: list[Transaction]) -> int:
    """Return the length of the part of a Data.fs with these transactions, its first ones."""
    return transactions[-1].end if transactions else MAGIC_LENGTH
