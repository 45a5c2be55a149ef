"""A secondary receives its primary's list of dropped transactions, and uses it as a primary.

Without the list, a secondary of a packed primary accepted every older history after a failover,
because a pack might explain it: an old primary with a fork followed it silently.
"""

from __future__ import annotations

import logging
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest
from ZODB.FileStorage import FileStorage
from ZODB.serialize import referencesf
from ZODB.utils import p64, u64

from packs.test_dropped_transactions import (
    change,
    drop_last,
    dropped_list,
    setting,
    unverified_histories,
)
from replicas.transactions import read_transactions
from replicas.waiting import wait_caught_up, wait_until
from zc.zrs.commands.bootstrap import run_bootstrap
from zc.zrs.filestorage import FileStorage as RustFileStorage

if TYPE_CHECKING:
    from pathlib import Path

    from replicas.opening import Opener
    from zc.zrs.primary import Primary
    from zc.zrs.secondary import Secondary

ENGINES = pytest.mark.parametrize("engine", [RustFileStorage, FileStorage])


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Capture the logs of both sides."""
    caplog.set_level(logging.INFO, "zc.zrs")
    return caplog


def pack(storage: Any) -> None:
    """Pack a storage up to now."""
    storage.pack(time.time() + 1, referencesf)


def tids_in(path: Path) -> set[bytes]:
    """Return the tids of the transactions in a Data.fs."""
    return {found.tid for found in read_transactions(path)}


def wait_for_list(secondary: Secondary) -> None:
    """Wait until a secondary has its primary's list."""
    wait_until(lambda: secondary.status()["dropped_list"] == "complete")


def has_all(primary: Primary, secondary: Secondary) -> None:
    """Wait until a secondary has everything, including the list."""
    wait_caught_up(primary, secondary)
    wait_for_list(secondary)


def verdicts(opener: Opener, path: Path, starts: list[bytes]) -> list[str]:
    """Return how this file's primary judges secondaries with these last transactions."""
    judging = opener.directory / "judging.fs"
    shutil.copy(path, judging)
    dropped_list(judging).unlink(missing_ok=True)
    if dropped_list(path).exists():
        shutil.copy(dropped_list(path), dropped_list(judging))
    storage = RustFileStorage(str(judging))
    # Each of them is followed by another transaction.
    change(storage, setting("judged", 1))
    primary = opener.primary(storage)
    found: list[str] = []
    for start in starts:
        errors = primary.status()["errors_by_kind"].get("fork", 0)

        def judged(errors: int = errors) -> str | None:
            status = primary.status()
            if status["errors_by_kind"].get("fork", 0) > errors:
                return "refused"
            histories = (peer["history"] for peer in status["peers"])
            return next((str(history) for history in histories if history), None)

        with opener.client(primary, start):
            found.append(wait_until(judged) or "")
        wait_until(lambda: not primary.status()["peers"])
    primary.close()
    return found


def history(storage: Any, number: int) -> list[bytes]:
    """Commit some transactions; a pack will keep few of them."""
    return change(storage, *(setting("x", value) for value in range(number)))


def forged(tids: list[bytes]) -> list[bytes]:
    """Return tids of transactions that were never committed, one after each of these."""
    return [p64(u64(tid) + 1) for tid in tids]


def judge_all(opener: Opener, path: Path, tids: list[bytes]) -> None:
    """Check that a file's primary distinguishes these transactions from forks."""
    assert set(verdicts(opener, path, tids)) == {"verified"}
    assert set(verdicts(opener, path, forged(tids))) == {"refused"}


@ENGINES
def test_a_secondary_of_a_packed_primary_can_verify_what_was_packed(
    opener: Opener, engine: Any
) -> None:
    storage = RustFileStorage(str(opener.path))
    tids = history(storage, 5)
    pack(storage)
    primary = opener.primary(storage)
    change(primary, setting("y", 1))
    secondary = opener.secondary(primary, engine(str(opener.copy)))
    has_all(primary, secondary)
    secondary.close()
    assert not tids_in(opener.copy).issuperset(tids)
    judge_all(opener, opener.copy, tids)


@pytest.mark.parametrize("fork", [True, False])
def test_an_old_primary_is_judged_by_a_secondary_that_was_made_after_the_pack(
    opener: Opener, log: pytest.LogCaptureFixture, *, fork: bool
) -> None:
    storage = RustFileStorage(str(opener.path))
    history(storage, 5)
    old = opener.directory / "old.fs"
    shutil.copy(opener.path, old)
    history(storage, 5)
    pack(storage)
    primary = opener.primary(storage)
    change(primary, setting("y", 1))
    secondary = opener.secondary(primary)
    has_all(primary, secondary)
    secondary.close()
    primary.close()
    returning = RustFileStorage(str(old))
    if fork:
        change(returning, setting("lost", 1))
    successor = opener.primary(RustFileStorage(str(opener.copy)))
    returned = opener.secondary(successor, returning)
    if fork:
        wait_until(lambda: returned.status()["state"] == "diverged")
        return
    wait_caught_up(successor, returned)
    assert successor.status()["peers"][0]["history"] == "verified"
    assert unverified_histories(successor) == [0]
    assert "fork" not in log.text


@ENGINES
def test_a_secondary_that_was_away_during_packs(opener: Opener, engine: Any) -> None:
    primary = opener.primary(RustFileStorage(str(opener.path)))
    tids = history(primary, 5)
    secondary = opener.secondary(primary, engine(str(opener.copy)))
    wait_caught_up(primary, secondary)
    secondary.close()
    assert not dropped_list(opener.copy).exists()
    for _ in range(3):
        tids += history(primary, 5)
        pack(primary)
        tids += history(primary, 2)
        secondary = opener.secondary(primary, engine(str(opener.copy)))
        has_all(primary, secondary)
        secondary.close()
    assert not tids_in(opener.copy).issuperset(tids)
    judge_all(opener, opener.copy, tids)


def test_a_secondary_that_packs_has_both_lists(opener: Opener) -> None:
    primary = opener.primary(RustFileStorage(str(opener.path)))
    tids = history(primary, 4)
    pack(primary)
    tids += history(primary, 4)
    secondary = opener.secondary(primary)
    has_all(primary, secondary)
    pack(secondary)
    tids += history(primary, 4)
    wait_caught_up(primary, secondary)
    pack(secondary)
    secondary.close()
    tids += history(primary, 4)
    pack(primary)
    tids += history(primary, 2)
    secondary = opener.secondary(primary)
    has_all(primary, secondary)
    pack(secondary)
    secondary.close()
    judge_all(opener, opener.copy, tids)


def test_a_pack_while_a_secondary_is_connected_needs_nothing_more(opener: Opener) -> None:
    primary = opener.primary(RustFileStorage(str(opener.path)))
    tids = history(primary, 3)
    secondary = opener.secondary(primary)
    wait_for_list(secondary)
    for _ in range(3):
        tids += history(primary, 3)
        wait_caught_up(primary, secondary)
        pack(primary)
    tids += history(primary, 3)
    wait_caught_up(primary, secondary)
    secondary.close()
    assert tids_in(opener.copy).issuperset(tids)
    judge_all(opener, opener.copy, tids)


def test_a_cascade_passes_the_list_on(opener: Opener) -> None:
    primary = opener.primary(RustFileStorage(str(opener.path)))
    tids = history(primary, 4)
    pack(primary)
    tids += history(primary, 2)
    middle_path, last_path = opener.directory / "middle.fs", opener.directory / "last.fs"
    for number in range(3):
        middle = opener.primary(RustFileStorage(str(middle_path)))
        between = opener.secondary(primary, middle)
        last = opener.secondary(middle.address, RustFileStorage(str(last_path)))
        has_all(primary, between)
        has_all(primary, last)
        last.close()
        between.close()
        tids += history(primary, 3)
        if number < 2:
            pack(primary)
            tids += history(primary, 2)
    known = [tid for tid in tids if tid <= max(tids_in(last_path))]
    assert not tids_in(last_path).issuperset(known)
    judge_all(opener, middle_path, known)
    judge_all(opener, last_path, known)


def test_a_bootstrap_ends_with_the_list(opener: Opener) -> None:
    storage = RustFileStorage(str(opener.path))
    tids = history(storage, 5)
    pack(storage)
    primary = opener.primary(storage)
    assert isinstance(primary.address, tuple)
    assert run_bootstrap(opener.copy, primary.address, check=False) == 0
    assert dropped_list(opener.copy).exists()
    judge_all(opener, opener.copy, tids)


def test_a_last_transaction_that_was_dropped_is_known_to_the_copy(opener: Opener) -> None:
    storage = RustFileStorage(str(opener.path))
    last = drop_last(storage)
    pack(storage)
    primary = opener.primary(storage)
    secondary = opener.secondary(primary)
    wait_until(lambda: secondary.status()["state"] == "following")
    wait_for_list(secondary)
    secondary.close()
    assert max(tids_in(opener.copy)) < last
    assert verdicts(opener, opener.copy, [last]) == ["verified"]
    copy = RustFileStorage(str(opener.copy))
    assert copy.lastTransaction() == last
    copy.close()
    secondary = opener.secondary(primary)
    (new,) = change(primary, setting("b", 1))
    wait_until(lambda: secondary.lastTransaction() == new)


def test_a_copy_without_its_list_gets_it_with_the_next_connection(opener: Opener) -> None:
    storage = RustFileStorage(str(opener.path))
    tids = history(storage, 5)
    pack(storage)
    primary = opener.primary(storage)
    tids += history(primary, 3)
    for pack_without_list in False, True:
        secondary = opener.secondary(primary)
        has_all(primary, secondary)
        if pack_without_list:
            pack(secondary)
        secondary.close()
        dropped_list(opener.copy).unlink()
        assert "unverified" in verdicts(opener, opener.copy, tids)
        tids += history(primary, 2)
        pack(primary)
        tids += history(primary, 2)
    secondary = opener.secondary(primary)
    has_all(primary, secondary)
    secondary.close()
    judge_all(opener, opener.copy, tids)


def test_a_secondary_that_was_killed_halfway(opener: Opener) -> None:
    """A copy of the files at any moment is the state after a kill."""
    storage = RustFileStorage(str(opener.path))
    tids = history(storage, 30)
    pack(storage)
    primary = opener.primary(storage)
    tids += history(primary, 300)
    secondary = opener.secondary(primary)
    images: list[Path] = []
    while len(images) < 20 and secondary.lastTransaction() < primary.lastTransaction():
        image = opener.directory / f"image{len(images)}.fs"
        # The list is renamed into place, so a copy of it is complete.
        if dropped_list(opener.copy).exists():
            shutil.copy(dropped_list(opener.copy), dropped_list(image))
        shutil.copy(opener.copy, image)
        images.append(image)
    has_all(primary, secondary)
    secondary.close()
    tids += history(primary, 3)
    pack(primary)
    tids += history(primary, 3)
    for image in images:
        again = opener.secondary(primary, RustFileStorage(str(image)))
        has_all(primary, again)
        again.close()
        judge_all(opener, image, tids[::15])


def test_a_primary_without_a_list_sends_none(opener: Opener) -> None:
    storage = RustFileStorage(str(opener.path))
    tids = history(storage, 5)
    pack(storage)
    storage.close()
    dropped_list(opener.path).unlink()
    primary = opener.primary(RustFileStorage(str(opener.path)))
    tids += history(primary, 2)
    secondary = opener.secondary(primary)
    wait_caught_up(primary, secondary)
    wait_until(lambda: secondary.status()["dropped_list"] == "incomplete")
    secondary.close()
    assert not dropped_list(opener.copy).exists()
    assert "refused" not in verdicts(opener, opener.copy, tids)


def test_a_list_that_cannot_be_written_does_not_stop_replication(
    opener: Opener, log: pytest.LogCaptureFixture
) -> None:
    storage = RustFileStorage(str(opener.path))
    history(storage, 5)
    pack(storage)
    primary = opener.primary(storage)
    blocked = dropped_list(opener.copy).with_name(opener.copy.name + ".dropped.tmp")
    blocked.mkdir()
    secondary = opener.secondary(primary)
    change(primary, setting("y", 1))
    wait_caught_up(primary, secondary)
    wait_until(lambda: secondary.status()["dropped_list"] is None)
    change(primary, setting("y", 2))
    wait_caught_up(primary, secondary)
    assert "the list of dropped transactions is not kept" in log.text
    assert secondary.status()["errors"] == 0
    secondary.close()
    blocked.rmdir()
    secondary = opener.secondary(primary)
    has_all(primary, secondary)
