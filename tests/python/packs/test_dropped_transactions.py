"""Packs list the transactions that they drop, so that forks can be distinguished from them.

Without the list, "take over, pack, bring the old primary back" led to a silent fork, and a
primary whose last transactions a pack had dropped refused healthy secondaries after a restart.
"""

from __future__ import annotations

import logging
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest
from persistent.mapping import PersistentMapping
from transaction import TransactionManager
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.serialize import referencesf
from ZODB.TimeStamp import TimeStamp
from ZODB.utils import p64, u64

from replicas.statuses import last_error
from replicas.transactions import read_transactions
from replicas.waiting import wait_caught_up, wait_until
from zc.zrs.filestorage import FileStorage as RustFileStorage
from zc.zrs.primary import Primary
from zc.zrs.status.metrics import measures
from zc.zrs.status.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from replicas.opening import Opener


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Capture the logs of both sides."""
    caplog.set_level(logging.INFO, "zc.zrs")
    return caplog


def dropped_list(path: Path) -> Path:
    """Return the path of a Data.fs's list."""
    return path.with_name(path.name + ".dropped")


def change(storage: Any, *changes: Callable[[Any], object]) -> list[bytes]:
    """Commit each change of the root in a transaction; return their tids."""
    database = DB(storage)
    manager = TransactionManager()
    root = database.open(manager).root()
    tids = []
    for apply in changes:
        apply(root)
        manager.commit()
        tids.append(storage.lastTransaction())
    return tids


def setting(key: str, value: object) -> Callable[[Any], object]:
    """Return a change of the root."""
    return lambda root: root.__setitem__(key, value)


def take_over(opener: Opener, storage: Any, pack_time: str) -> tuple[Primary, bytes, Path]:
    """Commit an unreplicated transaction on A, continue with B, and pack B.

    Returns B's primary, the transaction that only A has, and A's path.
    """
    a, b = opener.directory / "a.fs", opener.directory / "b.fs"
    first = storage(str(a))
    change(first, setting("account", 100), setting("other", 1), setting("other", 2))
    first.close()
    shutil.copy(a, b)
    first = storage(str(a))
    (lost,) = change(first, setting("account", 50))
    first.close()
    second = storage(str(b))
    common = second.lastTransaction()
    change(second, setting("new", "on B"), setting("new", "on B again"))
    times = {
        "now": time.time() + 1,
        "before": TimeStamp(common).timeTime() + 1e-5,
    }
    second.pack(times[pack_time], referencesf)
    change(second, setting("new", "later"))
    second.close()
    return opener.primary(storage(str(b))), lost, a


@pytest.mark.parametrize("pack_time", ["now", "before"])
def test_an_old_primary_that_comes_back_after_a_pack_is_refused(
    opener: Opener, log: pytest.LogCaptureFixture, pack_time: str
) -> None:
    primary, lost, a = take_over(opener, RustFileStorage, pack_time)
    secondary = opener.secondary(primary, RustFileStorage(str(a)))
    wait_until(lambda: secondary.status()["state"] == "diverged")
    assert f"0x{lost.hex()}" in log.text
    assert secondary.lastTransaction() == lost


def drop_last(storage: Any) -> bytes:
    """Commit transactions; a pack will drop the last two. Return the last one."""
    child = PersistentMapping()

    def late(_: Any) -> None:
        child["late"] = child.get("late", 0) + 1

    *_, last = change(
        storage,
        setting("a", child),
        lambda root: root.__delitem__("a"),
        late,
        late,
    )
    return last


@pytest.mark.parametrize("storage", [FileStorage, RustFileStorage])
@pytest.mark.parametrize("restart", [False, True])
def test_a_primary_whose_last_transactions_were_packed_away(
    opener: Opener, log: pytest.LogCaptureFixture, restart: bool, storage: Any
) -> None:
    native = RustFileStorage(str(opener.path))
    primary = opener.primary(native)
    last = drop_last(primary)
    secondary = opener.secondary(primary)
    wait_caught_up(primary, secondary)
    primary.pack(time.time() + 1, referencesf)
    assert read_transactions(opener.path)[-1].tid < last
    if restart:
        primary.close()
        primary = opener.primary(storage(str(opener.path)))
        secondary.setReplicationAddress(primary.address)
    wait_until(lambda: secondary.status()["state"] == "following")
    (new,) = change(primary, setting("b", 1))
    assert new > last
    wait_until(lambda: secondary.lastTransaction() == new)
    assert "fork" not in log.text


def test_the_last_transaction_is_the_same_before_and_after_reopening(opener: Opener) -> None:
    storage = RustFileStorage(str(opener.path))
    last = drop_last(storage)
    storage.pack(time.time() + 1, referencesf)
    assert storage.lastTransaction() == last
    storage.close()
    storage = RustFileStorage(str(opener.path))
    assert storage.lastTransaction() == last
    (new,) = change(storage, setting("b", 1))
    assert new > last
    storage.close()
    storage = RustFileStorage(str(opener.path))
    assert storage.lastTransaction() == new
    storage.close()


def test_a_secondary_that_was_behind_has_caught_up(opener: Opener) -> None:
    native = RustFileStorage(str(opener.path))
    primary = opener.primary(native)
    change(primary, setting("x", 1))
    secondary = opener.secondary(primary)
    wait_caught_up(primary, secondary)
    secondary.close()
    drop_last(primary)
    primary.pack(time.time() + 1, referencesf)
    kept = read_transactions(opener.path)[-1].tid
    assert kept < primary.lastTransaction()
    secondary = opener.secondary(primary)
    wait_until(lambda: secondary.lastTransaction() == kept)
    wait_until(lambda: secondary.status()["state"] == "following")
    wait_until(lambda: secondary.status()["primary_tid"] == f"0x{kept.hex()}")
    wait_until(lambda: primary.status()["peers"][0]["lag_transactions"] == 0)


def unverified_histories(primary: Primary) -> list[float]:
    snapshot = Observer(primary.status, "primary", "").snapshot()
    return [one.value for one in measures(snapshot) if one.name == "zrs_unverified_histories"]


def without_list(opener: Opener) -> bytes:
    """Pack a primary's file without leaving a list; return the dropped transactions."""
    storage = RustFileStorage(str(opener.path))
    *_, start = change(storage, setting("x", 1), setting("x", 2))
    shutil.copy(opener.path, opener.copy)
    change(storage, setting("x", 3), setting("x", 4))
    storage.pack(time.time() + 1, referencesf)
    change(storage, setting("x", 5))
    storage.close()
    dropped_list(opener.path).unlink()
    return start


def test_unverifiable_histories_are_reported(
    opener: Opener, log: pytest.LogCaptureFixture
) -> None:
    start = without_list(opener)
    primary = opener.primary()
    secondary = opener.secondary(primary)
    wait_caught_up(primary, secondary)
    wait_until(lambda: primary.status()["peers"][0]["history"] == "unverified")
    assert unverified_histories(primary) == [1]
    (warning,) = [r for r in log.records if r.levelno == logging.WARNING and "fork" in r.msg]
    assert f"0x{start.hex()}" in warning.getMessage()


def test_unverifiable_histories_can_be_refused(opener: Opener) -> None:
    without_list(opener)
    storage = RustFileStorage(str(opener.path))
    primary = Primary(storage, ("127.0.0.1", 0), unverified_history="refuse")
    try:
        secondary = opener.secondary(primary)
        wait_until(lambda: secondary.status()["state"] == "diverged")
        assert "left no list" in last_error(secondary)["message"]
    finally:
        primary.close()


def test_a_list_of_another_file_is_not_used(opener: Opener) -> None:
    without_list(opener)
    other = opener.directory / "other.fs"
    storage = RustFileStorage(str(other))
    change(storage, setting("y", 1), setting("y", 2), setting("y", b"3" * 1000))
    storage.pack(time.time() + 1, referencesf)
    storage.close()
    shutil.copy(dropped_list(other), dropped_list(opener.path))
    primary = opener.primary()
    secondary = opener.secondary(primary)
    wait_caught_up(primary, secondary)
    wait_until(lambda: primary.status()["peers"][0]["history"] == "unverified")


def test_lists_of_later_packs_have_what_earlier_ones_had(opener: Opener) -> None:
    storage = RustFileStorage(str(opener.path))
    starts = []
    for number in range(4):
        starts += change(storage, setting("x", number), setting("x", number + 100))[:1]
        storage.pack(time.time() + 1, referencesf)
    change(storage, setting("x", "end"))
    storage.close()
    gone = set(starts) - {found.tid for found in read_transactions(opener.path)}
    assert len(gone) == 4
    primary = opener.primary()
    for start in starts:
        with opener.client(primary, start) as client:
            client.take(1)
            wait_until(
                lambda: [p["history"] for p in primary.status()["peers"]] == ["verified"]
            )
            assert unverified_histories(primary) == [0]
        wait_until(lambda: not primary.status()["peers"])


def test_a_list_belongs_to_a_replicated_copy_too(opener: Opener) -> None:
    storage = RustFileStorage(str(opener.path))
    start = change(storage, setting("x", 1), setting("x", 2))[0]
    storage.pack(time.time() + 1, referencesf)
    primary = opener.primary(storage)
    change(primary, setting("x", 3))
    secondary = opener.secondary(primary)
    wait_caught_up(primary, secondary)
    secondary.close()
    shutil.copy(dropped_list(opener.path), dropped_list(opener.copy))
    primary = opener.primary(RustFileStorage(str(opener.copy)))
    with opener.client(primary, start) as client:
        client.take(1)
        wait_until(lambda: [p["history"] for p in primary.status()["peers"]] == ["verified"])


def test_a_secondary_that_packs_away_its_last_transaction_goes_on(
    opener: Opener, log: pytest.LogCaptureFixture
) -> None:
    primary = opener.primary(RustFileStorage(str(opener.path)))
    last = drop_last(primary)
    secondary = opener.secondary(primary, RustFileStorage(str(opener.copy)))
    wait_caught_up(primary, secondary)
    secondary.pack(time.time() + 1, referencesf)
    secondary.close()
    assert read_transactions(opener.copy)[-1].tid < last
    secondary = opener.secondary(primary, RustFileStorage(str(opener.copy)))
    assert secondary.lastTransaction() == last
    (new,) = change(primary, setting("b", 1))
    wait_until(lambda: secondary.lastTransaction() == new)
    assert "fork" not in log.text


@pytest.mark.parametrize("listed", [True, False])
def test_a_list_taken_before_a_copy_has_caught_up_belongs_to_it(
    opener: Opener, *, listed: bool
) -> None:
    storage = RustFileStorage(str(opener.path))
    first = change(storage, setting("x", 1), setting("x", 2))[0]
    storage.pack(time.time() + 1, referencesf)
    primary = opener.primary(storage)
    secondary = opener.secondary(primary)
    wait_caught_up(primary, secondary)
    second = change(primary, setting("x", 3), setting("x", 4))[0]
    # A pack after the copy began: the copy has the transactions that it drops.
    primary.pack(time.time() + 1, referencesf)
    assert {first, second}.isdisjoint(found.tid for found in read_transactions(opener.path))
    taken = shutil.copy(dropped_list(opener.path), opener.directory / "taken")
    change(primary, setting("x", 5))
    wait_caught_up(primary, secondary)
    secondary.close()
    # As in a copy made by an earlier version.
    dropped_list(opener.copy).unlink()
    if listed:
        shutil.copy(taken, dropped_list(opener.copy))
    primary.close()
    storage = RustFileStorage(str(opener.copy))
    storage.pack(time.time() + 1, referencesf)
    successor = opener.primary(storage)
    change(successor, setting("x", 6))
    # The transactions that the first pack dropped were never in the copy.
    for start, unverified in (first, int(not listed)), (second, 0):
        with opener.client(successor, start) as client:
            client.take(1)
            wait_until(
                lambda: [p["history"] is None for p in successor.status()["peers"]] == [False]
            )
            assert unverified_histories(successor) == [unverified]
        wait_until(lambda: not successor.status()["peers"])
    # A transaction that was never committed, between others that the first pack dropped.
    forged = p64(u64(first) + 1)
    with opener.client(successor, forged):
        if listed:
            wait_until(lambda: successor.status()["errors_by_kind"].get("fork") == 1)
        else:
            wait_until(lambda: unverified_histories(successor) == [1])
