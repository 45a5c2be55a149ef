"""pytest collects all tests here, and the comparison after each test can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ZODB.FileStorage.format import CorruptedError
from ZODB.tests import (
    BasicStorage,
    ConflictResolution,
    HistoryStorage,
    IteratorStorage,
    MTStorage,
    PackableStorage,
    PersistentStorage,
    ReadOnlyStorage,
    RecoveryStorage,
    RevisionStorage,
    Synchronization,
    TransactionalUndoStorage,
    testFileStorage,
)

from conformance.naming import zodb_tests
from conformance.replicated import Replication
from replicas.transactions import commit, read_transactions
from replicas.waiting import DEADLINE

READING = (
    BasicStorage.BasicStorage,
    TransactionalUndoStorage.TransactionalUndoStorage,
    RevisionStorage.RevisionStorage,
    PackableStorage.PackableStorage,
    PackableStorage.PackableStorageWithOptionalGC,
    PackableStorage.PackableUndoStorage,
    ConflictResolution.ConflictResolvingStorage,
    ConflictResolution.ConflictResolvingTransUndoStorage,
    HistoryStorage.HistoryStorage,
    IteratorStorage.IteratorStorage,
    IteratorStorage.ExtendedIteratorStorage,
    MTStorage.MTStorage,
    ReadOnlyStorage.ReadOnlyStorage,
)
ALL = (
    *READING,
    Synchronization.SynchronizedStorage,
    PersistentStorage.PersistentStorage,
    testFileStorage.FileStorageTests,
)
EXPECTED = {
    "TestPrimary": ALL,
    "TestPrimaryRecovery": (RecoveryStorage.RecoveryStorage,),
    "TestSecondary": READING,
}
NOT_APPLICABLE = {
    "TestPrimary": {"testFlushNeededAfterTruncate"},
    "TestSecondary": {"test_tid_ordering_w_commit"},
}


@pytest.fixture(scope="module")
def collected() -> set[tuple[str, str]]:
    """Return class and name of every test that pytest collects in this directory."""
    here = Path(__file__).parent
    files = [here / "test_primary.py", here / "test_secondary.py"]
    listing = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", *map(str, files)],
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE,
    ).stdout
    ids = (line.split("::") for line in listing.splitlines())
    return {(parts[1], parts[2]) for parts in ids if len(parts) == 3}


@pytest.mark.parametrize("class_name", EXPECTED)
def test_pytest_collects_every_test_of_the_mixins(
    class_name: str, collected: set[tuple[str, str]]
) -> None:
    names = {name for cls, name in collected if cls == class_name}
    for mixin in EXPECTED[class_name]:
        assert zodb_tests(mixin), mixin
        assert zodb_tests(mixin) - NOT_APPLICABLE.get(class_name, set()) <= names, mixin


@pytest.fixture
def replication(tmp_path: Path) -> Replication:
    """Return a replication that has run, with equal files on both sides."""
    replication = Replication(tmp_path / "Data.fs")
    primary = replication.open()
    for number in range(3):
        commit(primary, {number: b"data of %d" % number}, user="somebody")
    replication.finish()
    return replication


@pytest.mark.parametrize("position", range(-1, -150, -7))
def test_comparison_finds_any_changed_byte(replication: Replication, position: int) -> None:
    content = bytearray(replication.copy.read_bytes())
    content[position] ^= 1
    replication.copy.write_bytes(content)
    with pytest.raises((AssertionError, CorruptedError)):
        replication.compare()


@pytest.mark.parametrize("text", [b"data of 0", b"data of 2", b"somebody"])
def test_comparison_after_packs_finds_changed_data(
    replication: Replication, text: bytes
) -> None:
    replication.file_storages[0].packs = 1
    replication.compare()
    content = replication.copy.read_bytes()
    replication.copy.write_bytes(content.replace(text, text.upper(), 1))
    with pytest.raises(AssertionError):
        replication.compare()


@pytest.mark.parametrize("packs", [0, 1])
def test_comparison_finds_a_missing_transaction(replication: Replication, packs: int) -> None:
    replication.file_storages[0].packs = packs
    end = read_transactions(replication.copy)[1].end
    replication.copy.write_bytes(replication.copy.read_bytes()[:end])
    with pytest.raises(AssertionError):
        replication.compare()
