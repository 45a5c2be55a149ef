"""Clocks that jump, and packs during replication."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import pytest
import transaction
import ZODB
from BTrees.OOBTree import OOBTree
from ZODB.POSException import ReadConflictError

from replicas.comparison import assert_identical, assert_same_for_applications
from replicas.transactions import commit
from replicas.waiting import wait_caught_up

if TYPE_CHECKING:
    from replicas.opening import Opener

DAY = 24 * 60 * 60


def test_clocks_that_jump(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tids keep increasing, and waiting uses another clock."""
    primary = opener.primary()
    secondary = opener.secondary(primary, reconnect_delay=0.05)
    right = time.time
    tids = []
    for days in (0, 400, -400, 3, 0):
        monkeypatch.setattr(time, "time", lambda: right() + days * DAY)  # noqa: B023
        tids += [commit(primary, {n: b"%d days" % days}) for n in range(10)]
        wait_caught_up(primary, secondary)
        address = primary.address
        primary.close()
        primary = opener.primary(addr=address)
        wait_caught_up(primary, secondary)
        for peer in primary.status()["peers"]:
            assert peer["lag_seconds"] >= 0
    assert tids == sorted(tids)
    assert [t.tid for t in secondary.iterator()] == tids
    assert_identical(opener.path, opener.copy)


@pytest.mark.parametrize("packed", [["primary"], ["secondary"], ["primary", "secondary"]])
def test_packs_while_streaming(opener: Opener, packed: list[str]) -> None:
    """Commits continue, and an application of the secondary sees consistent data."""
    primary = opener.primary()
    source = opener.closing(ZODB.DB(primary))
    with source.transaction() as connection:
        connection.root.a = OOBTree({"value": 0})
        connection.root.b = OOBTree({"value": 0})
    secondary = opener.secondary(primary)
    wait_caught_up(primary, secondary)
    target = opener.closing(ZODB.DB(secondary))
    storages = {"primary": primary, "secondary": secondary}
    stop, broken, packs = threading.Event(), [], [0]

    def pack() -> None:
        while not stop.is_set():
            for name in packed:
                storages[name].pack(time.time(), ZODB.serialize.referencesf)
            packs[0] += 1

    def read() -> None:
        manager = transaction.TransactionManager(explicit=True)
        reading = target.open(manager)
        while not stop.is_set():
            manager.begin()
            # A pack may remove data that a transaction has yet to read; then it is retried.
            with contextlib.suppress(ReadConflictError):
                a, b = reading.root.a["value"], reading.root.b["value"]
                if a != b:
                    broken.append((a, b))
            manager.abort()
        reading.close()

    threads = [threading.Thread(target=work) for work in (pack, read)]
    for thread in threads:
        thread.start()
    number = 0
    while number < 150 or packs[0] < 3:
        number += 1
        with source.transaction() as connection:
            connection.root.a["value"] = connection.root.b["value"] = number
    stop.set()
    for thread in threads:
        thread.join()
    assert not broken
    wait_caught_up(primary, secondary)
    assert_same_for_applications(opener.path, opener.copy)
