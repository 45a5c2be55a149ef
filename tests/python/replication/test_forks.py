"""Forks: a secondary whose last transaction the primary does not have is refused.

zc.zrs accepted each of these secondaries, except one with a later tid than the primary's, and
sent it all later transactions.
"""

from __future__ import annotations

import logging
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.tests.hexstorage import HexStorage
from ZODB.utils import p64, u64

from packs.test_following_packs import fill as overwrite
from packs.test_following_packs import pack
from programs import free_port
from replicas.comparison import assert_at_least, assert_identical
from replicas.proxy import Proxy
from replicas.statuses import last_error
from replicas.transactions import commit, read_transactions
from replicas.waiting import wait_caught_up, wait_until
from zc.zrs.filestorage import FileStorage as RustFileStorage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from replicas.opening import Opener
    from zc.zrs.primary import Primary
    from zc.zrs.secondary import Secondary

HISTORY = 5


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Capture the logs of both sides."""
    caplog.set_level(logging.DEBUG, "zc.zrs")
    return caplog


def errors(log: pytest.LogCaptureFixture, side: str) -> list[str]:
    """Return the errors that one side (`primary` or `secondary`) has logged."""
    return [
        record.getMessage()
        for record in log.records
        if record.name == f"zc.zrs.{side}" and record.levelno >= logging.ERROR
    ]


def fill(path: Path, count: int = HISTORY) -> list[bytes]:
    """Commit to a Data.fs; return the tids of all its transactions."""
    storage = FileStorage(str(path))
    for number in range(count):
        commit(storage, {number: b"data %d" % number, 1000: b"last %d" % number})
    storage.close()
    return [found.tid for found in read_transactions(path)]


def commit_as(path: Path, tid: bytes, data: bytes) -> None:
    """Commit a transaction with this tid to a Data.fs."""
    storage = FileStorage(str(path))
    transaction: Any = object_transaction()
    storage.tpc_begin(transaction, tid, " ")
    storage.restore(p64(7), tid, data, "", None, transaction)
    storage.tpc_vote(transaction)
    storage.tpc_finish(transaction)
    storage.close()


def object_transaction() -> Any:
    """Return a transaction for `tpc_begin`."""
    return TransactionMetaData("", "a fork")


def after(tid: bytes, number: int = 1) -> bytes:
    """Return a tid that is later by this many of the smallest steps."""
    later: bytes = p64(u64(tid) + number)
    return later


def assert_refused(
    opener: Opener, primary: Primary, log: pytest.LogCaptureFixture, *words: str
) -> Secondary:
    """Check that a secondary stops, and that both sides log the reason with these words."""
    before = opener.copy.read_bytes()
    secondary = opener.secondary(primary)
    wait_until(lambda: errors(log, "primary") and errors(log, "secondary"))
    wait_until(lambda: "Disconnected" in log.text)
    commit(primary, {1: b"nothing of this arrives"})
    for side in "primary", "secondary":
        (error,) = errors(log, side)
        assert "histories diverged" in error
        assert "e-create" in error, "what to do"
        assert not [word for word in words if word not in error], error
    assert opener.copy.read_bytes() == before
    return secondary


def hexadecimal(tid: bytes) -> str:
    return f"0x{tid.hex()}"


def test_a_fork_with_a_tid_that_the_primary_never_had(
    opener: Opener, log: pytest.LogCaptureFixture
) -> None:
    *_, last = fill(opener.path)
    shutil.copy(opener.path, opener.copy)
    theirs = after(last, 1000)
    commit_as(opener.copy, theirs, b"the secondary's")
    primary = opener.primary()
    ours = commit(primary, {1: b"the primary's"})
    assert ours > theirs
    assert_refused(opener, primary, log, hexadecimal(theirs), hexadecimal(ours))


def test_a_fork_with_as_many_transactions(
    opener: Opener, log: pytest.LogCaptureFixture
) -> None:
    # After their common transactions, primary and secondary each have one more.
    *_, last = fill(opener.path)
    shutil.copy(opener.path, opener.copy)
    commit_as(opener.copy, after(last, 1000), b"same length!!")
    commit_as(opener.path, after(last, 2000), b"same length!!")
    assert opener.path.stat().st_size == opener.copy.stat().st_size
    assert_refused(opener, opener.primary(), log, hexadecimal(after(last, 1000)))


def test_a_fork_with_a_higher_tid(opener: Opener, log: pytest.LogCaptureFixture) -> None:
    *_, last = fill(opener.path)
    shutil.copy(opener.path, opener.copy)
    high = after(last, 1 << 60)
    commit_as(opener.copy, high, b"from the future")
    assert_refused(opener, opener.primary(), log, hexadecimal(high), hexadecimal(last))


def test_an_empty_primary_and_a_secondary_with_data(
    opener: Opener, log: pytest.LogCaptureFixture
) -> None:
    *_, last = fill(opener.copy)
    assert_refused(opener, opener.primary(), log, hexadecimal(last), "(none)")


def test_a_recreated_primary(opener: Opener, log: pytest.LogCaptureFixture) -> None:
    # All of its transactions are later than the secondary's.
    *_, last = fill(opener.copy)
    fill(opener.path)
    assert_refused(opener, opener.primary(), log, hexadecimal(last))


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_primary_restored_from_an_older_backup(
    opener: Opener, log: pytest.LogCaptureFixture, goes_on: bool
) -> None:
    fill(opener.path)
    backup = opener.path.read_bytes()
    primary = opener.primary()
    secondary = opener.secondary(primary)
    lost = commit(primary, {1: b"not in the backup"})
    wait_caught_up(primary, secondary)
    secondary.close()
    primary.close()
    opener.path.write_bytes(backup)
    opener.path.with_name("primary.fs.index").unlink()
    primary = opener.primary()
    if goes_on:
        assert commit(primary, {1: b"instead"}) > lost
    log.clear()
    assert_refused(opener, primary, log, hexadecimal(lost))


@pytest.mark.parametrize("storage", [FileStorage, RustFileStorage])
def test_transactions_that_differ_though_their_tids_are_equal(
    opener: Opener, log: pytest.LogCaptureFixture, storage: Any
) -> None:
    *_, last = fill(opener.path)
    shutil.copy(opener.path, opener.copy)
    tid = after(last, 1000)
    commit_as(opener.copy, tid, b"one")
    commit_as(opener.path, tid, b"two")
    primary = opener.primary()
    late = commit(primary, {1: b"later"})
    before = opener.copy.read_bytes()
    secondary = opener.secondary(primary, storage(str(opener.copy)))
    wait_until(lambda: errors(log, "primary") and errors(log, "secondary"))
    for side in "primary", "secondary":
        (error,) = errors(log, side)
        assert "not the same" in error
        assert hexadecimal(tid) in error
    assert secondary.lastTransaction() == tid < late
    assert opener.copy.read_bytes() == before


def test_a_difference_in_a_description_is_a_fork(
    opener: Opener, log: pytest.LogCaptureFixture
) -> None:
    fill(opener.path, 1)
    tid = read_transactions(opener.path)[-1].tid
    shutil.copy(opener.path, opener.copy)
    for path, description in (opener.path, "one"), (opener.copy, "two"):
        storage = FileStorage(str(path))
        transaction = object_transaction()
        transaction.description = description.encode()
        storage.tpc_begin(transaction, after(tid), " ")
        storage.tpc_vote(transaction)
        storage.tpc_finish(transaction)
        storage.close()
    opener.secondary(opener.primary())
    wait_until(lambda: errors(log, "primary") and errors(log, "secondary"))


def test_equal_transactions_whose_extensions_were_pickled_again(
    opener: Opener, log: pytest.LogCaptureFixture
) -> None:
    # zc.zrs does that when it relays, and a secondary may have followed through one.
    fill(opener.path, 1)
    tid = after(read_transactions(opener.path)[-1].tid)
    shutil.copy(opener.path, opener.copy)
    for path, extension in (
        (opener.path, b"}(X\1\0\0\0aK\1u."),
        (opener.copy, b"}X\1\0\0\0aK\1s."),
    ):
        storage = FileStorage(str(path))
        transaction = object_transaction()
        transaction.extension_bytes = extension
        storage.tpc_begin(transaction, tid, " ")
        storage.tpc_vote(transaction)
        storage.tpc_finish(transaction)
        storage.close()
    primary = opener.primary()
    secondary = opener.secondary(primary)
    commit(primary, {1: b"more"})
    wait_caught_up(primary, secondary)
    assert not errors(log, "secondary")


@pytest.mark.parametrize("gc", [False, True])
@pytest.mark.parametrize("which", ["primary", "secondary", "both"])
def test_a_history_that_a_pack_explains_is_accepted(
    opener: Opener, log: pytest.LogCaptureFixture, which: str, gc: bool
) -> None:
    storage = FileStorage(str(opener.path))
    overwrite(storage, 30, 100)
    storage.close()
    shutil.copy(opener.path, opener.copy)
    primary = opener.primary()
    for path in (opener.path, opener.copy):
        if which in {"both", path.stem}:
            storage = primary if path == opener.path else FileStorage(str(path))
            pack(storage, gc=gc)
            if storage is not primary:
                storage.close()
    last = commit(primary, {1: b"after the pack"})
    secondary = opener.secondary(primary)
    wait_until(lambda: secondary.lastTransaction() == last)
    if which == "primary":
        assert_at_least(opener.path, opener.copy)
    assert not errors(log, "primary") + errors(log, "secondary")


def test_a_start_that_a_pack_removed(opener: Opener, log: pytest.LogCaptureFixture) -> None:
    # The next transaction overwrites the data of the secondary's last one.
    tids = fill(opener.path, 12)
    shutil.copy(opener.path, opener.copy)
    primary = opener.primary()
    for number in range(2):
        commit(primary, {**dict.fromkeys(range(12), b"again %d" % number), 1000: b"again"})
    pack(primary, gc=False)
    last = commit(primary, {1: b"after the pack"})
    assert tids[-1] not in [found.tid for found in read_transactions(opener.path)]
    secondary = opener.secondary(primary)
    wait_until(lambda: secondary.lastTransaction() == last)
    assert "(removed by a pack)" in log.text
    assert not errors(log, "primary") + errors(log, "secondary")


def test_a_fork_later_than_a_pack(opener: Opener, log: pytest.LogCaptureFixture) -> None:
    fill(opener.path, 12)
    primary = opener.primary()
    pack(primary, gc=False)
    common = [commit(primary, {1: b"common %d" % number}) for number in range(2)]
    shutil.copy(opener.path, opener.copy)
    theirs = after(common[-1], 100)
    commit_as(opener.copy, theirs, b"the secondary's")
    commit(primary, {1: b"the primary's"})
    assert_refused(opener, primary, log, hexadecimal(theirs))


def test_old_peers_with_a_fork_are_disconnected(
    opener: Opener, log: pytest.LogCaptureFixture
) -> None:
    # Without a capability offer, a client is treated as by zc.zrs for a higher tid.
    *_, last = fill(opener.path)
    primary = opener.primary()
    for start in after(last), p64(u64(last) - 1):
        with opener.client(primary, start) as client:
            assert client.receive() is None
    wait_until(lambda: len(errors(log, "primary")) == 2)


def test_a_fork_is_logged_once_however_often_it_is_tried(
    opener: Opener, log: pytest.LogCaptureFixture
) -> None:
    *_, last = fill(opener.path)
    primary = opener.primary()
    for _ in range(5):
        with opener.client(primary, after(last)) as client:
            assert client.receive() is None
    wait_until(lambda: log.text.count("Disconnected") == 5)
    assert len(errors(log, "primary")) == 1
    with opener.client(primary, after(last, 2)) as client:
        assert client.receive() is None
    wait_until(lambda: len(errors(log, "primary")) == 2)


def test_a_secondary_with_a_fork_does_not_keep_trying(
    opener: Opener, log: pytest.LogCaptureFixture
) -> None:
    *_, last = fill(opener.path)
    shutil.copy(opener.path, opener.copy)
    commit_as(opener.copy, after(last), b"the secondary's")
    primary = opener.primary()
    secondary = opener.secondary(primary, reconnect_delay=0.01)
    wait_until(lambda: secondary.status()["state"] == "diverged")
    assert "later than the primary's last" in last_error(secondary)["message"]
    assert secondary.status()["errors_by_kind"] == {"fork": 1}
    wait_until(lambda: primary.status()["errors_by_kind"])
    # The disconnect by the secondary is not counted as another error.
    assert primary.status()["errors_by_kind"] == {"fork": 1}
    attempts = log.text.count("start b")
    # A hundred times as long as the pause between attempts.
    with pytest.raises(AssertionError):
        wait_until(lambda: log.text.count("start b") > attempts, "another attempt", 1)


def test_a_secondary_that_was_sent_elsewhere_has_no_fork(
    opener: Opener, log: pytest.LogCaptureFixture
) -> None:
    *_, last = fill(opener.path)
    shutil.copy(opener.path, opener.copy)
    commit_as(opener.copy, after(last), b"the secondary's")
    right = opener.directory / "right.fs"
    shutil.copy(opener.copy, right)
    secondary = opener.secondary(opener.primary())
    wait_until(lambda: secondary.status()["state"] == "diverged")
    primary = opener.primary(str(right))
    secondary.setReplicationAddress(primary.address)
    last = commit(primary, {1: b"more"})
    wait_until(lambda: secondary.lastTransaction() == last)
    wait_until(lambda: secondary.status()["state"] == "following")
    assert len(errors(log, "secondary")) == 1


def test_a_secondary_that_lost_its_tail_resumes(
    opener: Opener, log: pytest.LogCaptureFixture
) -> None:
    fill(opener.path)
    primary = opener.primary()
    secondary = opener.secondary(primary)
    commit(primary, {1: b"more"})
    wait_caught_up(primary, secondary)
    secondary.close()
    transactions = read_transactions(opener.copy)
    with opener.copy.open("r+b") as file:
        # In the last transaction, as after a crash before it was on disk.
        file.truncate(transactions[-1].end - 20)
    secondary = opener.secondary(("127.0.0.1", free_port()))
    assert secondary.lastTransaction() == transactions[-2].tid
    secondary.setReplicationAddress(primary.address)
    wait_caught_up(primary, secondary)
    assert_identical(opener.path, opener.copy)
    assert not errors(log, "secondary") + errors(log, "primary")


def test_layered_storages_are_not_compared(
    opener: Opener, log: pytest.LogCaptureFixture
) -> None:
    # The file of such a secondary differs from what it received.
    primary = opener.primary()
    commit(primary, {0: b"data"})
    secondary = opener.secondary(primary, HexStorage(FileStorage(str(opener.copy))))
    wait_caught_up(primary, secondary)
    secondary.close()
    secondary = opener.secondary(primary, HexStorage(FileStorage(str(opener.copy))))
    commit(primary, {0: b"more data"})
    wait_caught_up(primary, secondary)
    assert not errors(log, "secondary") + errors(log, "primary")


def test_our_secondary_reports_what_is_on_its_disk(opener: Opener) -> None:
    primary = opener.primary()
    secondary = opener.secondary(primary)
    last = [commit(primary, {0: b"data %d" % number}) for number in range(20)][-1]
    wait_caught_up(primary, secondary)
    wait_until(lambda: primary.status()["peers"][0]["durable_tid"] == hexadecimal(last))
    with opener.client(primary) as client:
        client.take(20)
        wait_until(lambda: len(primary.status()["peers"]) == 2)
        assert [peer["durable_tid"] for peer in primary.status()["peers"]][1] is None


class SlicingProxy(Proxy):
    """Forwards data of a secondary in pieces of a few bytes."""

    @staticmethod
    def _forward(source: Any, target: Any, limit: int | None = None) -> bool:
        slices: Any = Slices(target)
        return Proxy._forward(source, slices, limit)


class Slices:
    """A socket that sends a handshake's bytes in two pieces."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def sendall(self, data: bytes) -> None:
        """Send two pieces far enough apart to arrive separately."""
        self._target.sendall(data[:40])
        if data[40:]:
            time.sleep(0.05)
            self._target.sendall(data[40:])


@pytest.fixture
def slicing() -> Iterator[list[SlicingProxy]]:
    """Close everything that is added."""
    proxies: list[SlicingProxy] = []
    yield proxies
    for proxy in proxies:
        proxy.close()


def test_a_capability_offer_in_two_segments_is_understood(
    opener: Opener, log: pytest.LogCaptureFixture, slicing: list[SlicingProxy]
) -> None:
    *_, last = fill(opener.path)
    shutil.copy(opener.path, opener.copy)
    tid = after(last, 1000)
    commit_as(opener.copy, tid, b"one")
    commit_as(opener.path, tid, b"two")
    primary = opener.primary()
    assert isinstance(primary.address, tuple)
    slicing.append(SlicingProxy(primary.address, []))
    opener.secondary(slicing[0].address)
    wait_until(lambda: errors(log, "primary") and errors(log, "secondary"))
    assert "not the same" in errors(log, "primary")[0]
