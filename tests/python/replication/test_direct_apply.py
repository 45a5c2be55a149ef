"""Storages that a secondary applies to natively, and storages whose methods it calls.

A native shortcut would bypass what a subclass or wrapper does with a transaction.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import ZODB.FileStorage
from ZODB.blob import BlobStorage
from ZODB.serialize import referencesf

from replicas.comparison import assert_at_least, assert_identical
from replicas.transactions import commit
from replicas.waiting import DEADLINE, wait_caught_up, wait_until
from zc.zrs.filestorage import FileStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from replicas.opening import Opener

COUNT = 20


class Calls:
    """Counts a storage's calls of methods that restore."""

    def __init__(self) -> None:
        self.number = 0

    def counting(self, restore: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method that counts its calls."""

        def counted(*arguments: Any, **options: Any) -> Any:
            self.number += 1
            return restore(*arguments, **options)

        return counted


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Count the calls of both kinds of storages."""
    calls = Calls()
    for kind in FileStorage, ZODB.FileStorage.FileStorage:
        monkeypatch.setattr(kind, "restore", calls.counting(kind.restore))
    return calls


class Subclass(FileStorage):
    """A third-party subclass."""


def with_method_of_its_own(path: str) -> FileStorage:
    """Return a storage with a replaced method."""
    storage = FileStorage(path)
    storage.tpc_vote = storage.tpc_vote  # type: ignore[method-assign]
    return storage


def wrapped(path: str) -> Any:
    """Return a storage in a wrapper that claims to have the storage's class."""
    return BlobStorage(f"{path}.blobs", FileStorage(path))


def replicate(opener: Opener, storage: Any) -> None:
    """Replicate transactions from before and during the connection to a storage."""
    primary = opener.primary()
    for number in range(COUNT // 2):
        commit(primary, {number: b"before"})
    secondary = opener.secondary(primary, storage)
    for number in range(COUNT // 2):
        commit(primary, {number: b"live"})
    wait_caught_up(primary, secondary)
    assert_identical(opener.path, opener.copy)


def test_our_own_storage_is_applied_to_without_its_methods(
    opener: Opener, calls: Calls
) -> None:
    replicate(opener, FileStorage(str(opener.copy)))
    assert calls.number == 0


def test_our_own_storage_in_a_primary_is_applied_to_without_its_methods(
    opener: Opener, calls: Calls
) -> None:
    replicate(opener, opener.primary(FileStorage(str(opener.copy))))
    assert calls.number == 0


@pytest.mark.parametrize(
    "make", [Subclass, with_method_of_its_own, wrapped, ZODB.FileStorage.FileStorage]
)
@pytest.mark.parametrize("is_primary", [False, True])
def test_the_methods_of_any_other_storage_are_called(
    opener: Opener, calls: Calls, make: Callable[[str], Any], *, is_primary: bool
) -> None:
    storage = make(str(opener.copy))
    replicate(opener, opener.primary(storage) if is_primary else storage)
    assert calls.number == COUNT


def test_a_pack_during_a_busy_catch_up_ends(opener: Opener) -> None:
    primary = opener.primary()
    tids = [commit(primary, {number % 7: b"x" * 20_000}) for number in range(300)]
    storage = FileStorage(str(opener.copy))
    secondary = opener.secondary(primary, storage)
    ended = threading.Event()

    def keep_busy() -> None:
        number = 0
        while not ended.is_set():
            commit(primary, {number % 7: b"y" * 5_000})
            number += 1
            time.sleep(0.002)  # otherwise comparing the files takes longest

    committing = threading.Thread(target=keep_busy)
    committing.start()
    try:
        # By then the pack has old revisions to drop.
        wait_until(lambda: storage.lastTransaction() >= tids[20], "the first transactions")
        packing = threading.Thread(
            target=lambda: storage.pack(time.time(), referencesf, gc=False)
        )
        packing.start()
        packing.join(DEADLINE)
        assert not packing.is_alive()
    finally:
        ended.set()
        committing.join(DEADLINE)
    wait_caught_up(primary, secondary)
    # In this case the copy was packed.
    assert_at_least(opener.copy, opener.path)
    assert opener.copy.with_name(opener.copy.name + ".old").exists()
