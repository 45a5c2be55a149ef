"""A primary follows its storage across packs, which replace the file.

Packs are not replicated: a secondary keeps what it has, and the stream continues.
"""

from __future__ import annotations

import io
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import transaction
import ZODB
from BTrees.OOBTree import OOBTree
from ZODB.serialize import referencesf
from ZODB.utils import p64, z64

from replicas.comparison import assert_at_least, assert_identical
from replicas.transactions import (
    Transaction,
    commit,
    current_records,
    read_transactions,
)
from replicas.waiting import DEADLINE, wait_caught_up

if TYPE_CHECKING:
    from replicas.client import Client, Received
    from replicas.opening import Opener

pytestmark = pytest.mark.both_engines

SMALL_BUFFER = 4096  # receive buffer of a slow client in bytes


def pack(storage: Any, *, gc: bool) -> None:
    """Pack everything up to the last transaction."""
    while True:
        last = storage.lastTransaction()
        now = time.time() + 1e-3
        # Other threads may be committing: the last transaction must not be later than now.
        if storage.lastTransaction() == last:
            break
    storage.pack(now, referencesf, gc=gc)


class Reference:
    """Represents another object in an object's state."""

    def __init__(self, number: int) -> None:
        self.oid = p64(number)


class ObjectPickler(pickle.Pickler):
    def persistent_id(self, reference: Any) -> tuple[bytes, None] | None:
        return (reference.oid, None) if isinstance(reference, Reference) else None


def object_data(number: int, text: str) -> bytes:
    """Return the record of an object; object 0 refers to nine others."""
    file = io.BytesIO()
    pickle.Pickler(file, 3).dump((("persistent.mapping", "PersistentMapping"), None))
    references = [Reference(other) for other in range(1, 10)] if number == 0 else []
    ObjectPickler(file, 3).dump({"data": {"text": text, "references": references}})
    return file.getvalue()


def fill(storage: Any, count: int, size: int = 20_000) -> list[bytes]:
    """Commit versions of ten objects, one after the other."""
    return [
        commit(storage, {n % 10: object_data(n % 10, f"{n:06} " * (size // 7))})
        for n in range(count)
    ]


def receive_until(client: Client, tid: bytes) -> list[Received]:
    """Return the transactions that a client receives up to this one."""
    received = client.take(1)
    while received[-1].tid < tid:
        received += client.take(1)
    return received


def assert_complete(received: list[Received], kept: list[Transaction]) -> None:
    """Fail unless a client got each transaction once, in order, and all current data."""
    tids = [got.tid for got in received]
    assert tids == sorted(set(tids))
    assert {t.tid for t in kept} <= set(tids)
    current = {oid: (tid, data) for got in received for oid, tid, data, _ in got.records}
    for oid, record in current_records(kept).items():
        assert current[oid] == record


@pytest.mark.parametrize("gc", [False, True])
def test_packs_while_a_slow_client_reads(opener: Opener, gc: bool) -> None:
    primary = opener.primary()
    fill(primary, 800)  # more than the socket buffers of both sides hold
    client = opener.client(primary, receive_buffer=SMALL_BUFFER)
    received = client.take(3)
    kept = []
    for _ in range(3):
        pack(primary, gc=gc)
        last = fill(primary, 20)[-1]
        kept = read_transactions(opener.path)
    received += receive_until(client, last)
    assert_complete(received, kept)
    tids = [got.tid for got in received]
    assert tids == sorted(set(tids))
    assert tids[-20:] == [t.tid for t in kept][-20:]
    tid = commit(primary, {1: b"the stream goes on"})
    assert client.take(1)[0].tid == tid


@pytest.mark.parametrize("gc", [False, True])
def test_a_secondary_follows_through_packs(opener: Opener, gc: bool) -> None:
    primary = opener.primary()
    database = opener.closing(ZODB.DB(primary))
    secondary = opener.secondary(primary)
    connection = database.open()
    connection.root.tree = OOBTree()
    for round_ in range(4):
        for n in range(30):
            connection.root.tree[n % 7] = OOBTree({round_: n})
            transaction.commit()
        pack(primary, gc=gc)
    wait_caught_up(primary, secondary)
    assert_at_least(opener.path, opener.copy)
    late = opener.secondary(primary, str(opener.directory / "late.fs"))
    wait_caught_up(primary, late)
    assert_at_least(opener.path, opener.directory / "late.fs")


@pytest.mark.parametrize("gc", [False, True])
def test_a_client_with_a_tid_that_was_packed_away(opener: Opener, gc: bool) -> None:
    primary = opener.primary()
    tids = fill(primary, 30, 100)
    pack(primary, gc=gc)
    remaining = [t.tid for t in read_transactions(opener.path)]
    assert not set(remaining) & set(tids[:20])
    tids += fill(primary, 5, 100)
    everything = [t.tid for t in read_transactions(opener.path)]
    for start in [z64, *tids[:-1]]:
        expected = [tid for tid in everything if tid > start]
        with opener.client(primary, start) as client:
            assert [got.tid for got in client.take(len(expected))] == expected


def test_a_pack_that_leaves_the_file_shorter_than_the_known_end(opener: Opener) -> None:
    # The primary remembers the end of the file at its last commit; after the pack the file is
    # much shorter.
    primary = opener.primary()
    last = fill(primary, 50)[-1]
    pack(primary, gc=False)
    client = opener.client(primary, last)
    tid = commit(primary, {1: b"after the pack"})
    assert client.take(1)[0].tid == tid
    client = opener.client(primary, last)
    assert client.take(1)[0].tid == tid


def test_commits_and_packs_at_the_same_time(opener: Opener) -> None:
    primary = opener.primary()
    secondary = opener.secondary(primary)
    client = opener.client(primary)
    stop = threading.Event()
    failures: list[BaseException] = []

    def pack_again_and_again() -> None:
        try:
            while not stop.wait(0.01):
                pack(primary, gc=False)
        except BaseException as error:  # noqa: BLE001 -- it fails the test below
            failures.append(error)

    packing = threading.Thread(target=pack_again_and_again)
    packing.start()
    tids = fill(primary, 300, 5000)
    stop.set()
    packing.join(DEADLINE)
    assert not packing.is_alive()
    assert not failures
    received = receive_until(client, tids[-1])
    assert_complete(received, read_transactions(opener.path))
    wait_caught_up(primary, secondary)
    assert_at_least(opener.path, opener.copy)


def test_a_secondary_may_be_packed_and_goes_on(opener: Opener) -> None:
    primary = opener.primary()
    secondary = opener.secondary(primary)
    fill(primary, 30, 100)
    wait_caught_up(primary, secondary)
    pack(secondary, gc=False)
    fill(primary, 30, 100)
    wait_caught_up(primary, secondary)
    assert current_records(read_transactions(opener.copy)) == current_records(
        read_transactions(opener.path)
    )


def test_equal_files_after_packing_both(opener: Opener) -> None:
    primary = opener.primary()
    fill(primary, 30, 100)
    pack(primary, gc=False)
    fill(primary, 30, 100)
    secondary = opener.secondary(primary)
    wait_caught_up(primary, secondary)
    primary.close()
    secondary.close()
    packed = [t._replace(end=0) for t in read_transactions(opener.path)]
    assert [t._replace(end=0) for t in read_transactions(opener.copy)] == packed
    assert_at_least(opener.path, opener.copy)


def test_files_are_identical_again_without_packs(opener: Opener) -> None:
    primary = opener.primary()
    secondary = opener.secondary(primary)
    fill(primary, 30, 100)
    wait_caught_up(primary, secondary)
    assert_identical(opener.path, opener.copy)
