"""A primary follows its storage: what it sends, from which position, and when."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import transaction
import ZODB
from BTrees.OOBTree import OOBTree
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64, u64, z64

from replicas.comparison import assert_identical
from replicas.transactions import commit, read_transactions, undo
from replicas.waiting import DEADLINE, wait_caught_up, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from replicas.opening import Opener
    from zc.zrs.primary import Primary

pytestmark = pytest.mark.both_engines

SILENCE = 0.3  # seconds in which data would arrive if any were sent


@pytest.fixture
def in_thread() -> Iterator[Callable[..., threading.Thread]]:
    """Run functions in threads until they end; raise their exceptions."""
    threads: list[threading.Thread] = []
    failures: list[BaseException] = []

    def start(function: Callable[..., object], *args: Any, **options: Any) -> threading.Thread:
        def run() -> None:
            try:
                function(*args, **options)
            except BaseException as error:  # noqa: BLE001 -- it fails the test below
                failures.append(error)

        thread = threading.Thread(target=run, daemon=True)
        threads.append(thread)
        thread.start()
        return thread

    yield start
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


def test_each_start_gets_what_follows_it(opener: Opener) -> None:
    primary = opener.primary()
    tids = [commit(primary, {n: b"data %d" % n}) for n in range(8)]
    for start in [z64, *tids]:
        expected = [tid for tid in tids if tid > start]
        with opener.client(primary, start) as client:
            assert [got.tid for got in client.take(len(expected))] == expected


def test_start_at_the_end_is_silent_until_the_next_commit(opener: Opener) -> None:
    primary = opener.primary()
    client = opener.client(primary, commit(primary, {0: b"data"}))
    assert client.is_silent(SILENCE)
    tid = commit(primary, {0: b"more data"})
    assert client.take(1)[0].tid == tid


def test_start_after_the_end_is_refused(
    opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    primary = opener.primary()
    tid = commit(primary, {0: b"data"})
    client = opener.client(primary, p64(u64(tid) + 1))
    assert client.receive() is None
    wait_until(
        lambda: any("later than the primary" in r.getMessage() for r in caplog.records),
        "it is logged",
    )


def test_a_client_of_an_empty_primary_gets_the_first_transaction(opener: Opener) -> None:
    primary = opener.primary()
    client = opener.client(primary)
    assert client.is_silent(SILENCE)
    tid = commit(primary, {0: b"data"}, user="u", description="d", extension={"x": [1]})
    assert client.take(1) == [
        (tid, " ", b"u", b"d", {"x": [1]}, ((p64(0), tid, b"data", None),))
    ]


class BlockingStorage(FileStorage):  # type: ignore[misc]
    """A file storage whose `tpc_finish` writes everything, but returns only when allowed."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.written, self.may_return = threading.Event(), threading.Event()

    def tpc_finish(self, *args: Any) -> Any:
        result = super().tpc_finish(*args)
        self.written.set()
        assert self.may_return.wait(DEADLINE)
        return result


def test_nothing_is_sent_before_tpc_finish_returns(
    opener: Opener, in_thread: Callable[..., threading.Thread]
) -> None:
    storage = BlockingStorage(str(opener.path))
    primary = opener.primary(storage)
    early = opener.client(primary)
    in_thread(commit, primary, {0: b"data"})
    assert storage.written.wait(DEADLINE)
    assert len(read_transactions(opener.path)) == 1
    late = opener.client(primary)
    assert early.is_silent(SILENCE)
    assert late.is_silent(SILENCE)
    storage.may_return.set()
    assert early.take(1) == late.take(1)


def test_nothing_is_sent_while_the_callback_of_tpc_finish_waits(
    opener: Opener, in_thread: Callable[..., threading.Thread]
) -> None:
    primary = opener.primary()
    client = opener.client(primary)
    called, may_return = threading.Event(), threading.Event()

    def wait(_: bytes) -> None:
        called.set()
        assert may_return.wait(DEADLINE)

    in_thread(commit, primary, {0: b"data"}, finished=wait)
    assert called.wait(DEADLINE)
    assert client.is_silent(SILENCE)
    may_return.set()
    assert client.take(1)[0].tid == primary.lastTransaction()


def vote(primary: Primary, data: bytes) -> TransactionMetaData:
    voted = TransactionMetaData()
    primary.tpc_begin(voted)
    primary.store(p64(0), z64, data, "", voted)
    primary.tpc_vote(voted)
    return voted


def test_an_aborted_transaction_is_never_sent(opener: Opener) -> None:
    primary = opener.primary()
    early = opener.client(primary)
    voted = vote(primary, b"aborted" * 1000)
    late = opener.client(primary)
    assert early.is_silent(SILENCE)
    assert late.is_silent(SILENCE)
    primary.tpc_abort(voted)
    tid = commit(primary, {0: b"kept"})
    for client in early, late, opener.client(primary):
        got = client.take(1)[0]
        assert (got.tid, got.records) == (tid, ((p64(0), tid, b"kept", None),))
        assert client.is_silent(SILENCE)


def test_an_aborted_transaction_that_was_longer_than_what_follows(opener: Opener) -> None:
    primary = opener.primary()
    secondary = opener.secondary(primary)
    for n in range(20):
        primary.tpc_abort(vote(primary, b"aborted" * 10000))
        commit(primary, {1: b"kept %d" % n})
    wait_caught_up(primary, secondary)
    assert_identical(opener.path, opener.copy)


def test_failing_tpc_finish_ships_nothing(opener: Opener) -> None:
    primary = opener.primary()
    client = opener.client(primary)

    def fail(_: bytes) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        commit(primary, {0: b"data"}, finished=fail)
    assert client.is_silent(SILENCE)


class InterruptedStorage(FileStorage):  # type: ignore[misc]
    """A file storage that is interrupted once a transaction is durable."""

    def tpc_finish(self, *args: Any) -> Any:
        super().tpc_finish(*args)
        raise KeyboardInterrupt


def test_a_durable_transaction_is_sent_though_its_commit_is_interrupted(opener: Opener) -> None:
    primary = opener.primary(InterruptedStorage(str(opener.path)))
    client = opener.client(primary)
    with pytest.raises(KeyboardInterrupt):
        commit(primary, {0: b"data"})
    assert client.take(1)[0].tid == primary.lastTransaction()


def test_small_and_large_transactions(opener: Opener) -> None:
    primary = opener.primary()
    secondary = opener.secondary(primary)
    for n in range(200):
        commit(primary, {n: b"x" * n if n else b"0"})
    large = bytes(range(256)) * (20 << 12)
    assert len(large) == 20 << 20
    tid = commit(primary, {0: large, 1: b"small", 2: large[:1_000_000]})
    undo(primary, tid)
    commit(primary, {n: b"record %d" % n for n in range(5000)})
    commit(primary)
    wait_caught_up(primary, secondary)
    assert_identical(opener.path, opener.copy)
    late = opener.secondary(primary, str(opener.directory / "late.fs"))
    wait_caught_up(primary, late)
    assert_identical(opener.path, opener.directory / "late.fs")


def test_many_clients_at_once(opener: Opener) -> None:
    primary = opener.primary()
    tids = [commit(primary, {n: b"early %d" % n}) for n in range(10)]
    clients = [opener.client(primary, ([z64, *tids])[n % 11]) for n in range(50)]
    tids += [commit(primary, {n: b"late %d" % n * 1000}) for n in range(10)]
    for n, client in enumerate(clients):
        assert [got.tid for got in client.take(20 - n % 11)] == tids[n % 11 :]


class Database:
    """A database that records the storage's last transaction when it is notified."""

    def __init__(self, storage: Any) -> None:
        self.storage = storage
        self.calls: list[tuple[bytes, list[bytes], bytes]] = []

    def invalidate(self, tid: bytes, oids: Any) -> None:
        self.calls.append((tid, list(oids), self.storage.lastTransaction()))

    def transform_record_data(self, data: bytes) -> bytes:
        return data

    untransform_record_data = transform_record_data


def test_a_database_is_notified_before_the_transaction_is_visible(opener: Opener) -> None:
    primary = opener.primary()
    secondary = opener.secondary(primary)
    database = Database(secondary)
    secondary.registerDB(database)
    shown: list[bytes] = []
    expected, previous = [], z64
    for n in range(50):
        tid = commit(primary, {n: b"data", n + 1: b"data"})
        expected.append((tid, [p64(n), p64(n + 1)], previous))
        previous = tid
    while not shown or shown[-1] < previous:
        last = secondary.lastTransaction()
        # The database has been notified of all visible transactions.
        assert last == z64 or last in [tid for tid, _, _ in database.calls]
        shown.append(last)
    assert database.calls == expected


def test_a_database_of_a_secondary_sees_changes(opener: Opener) -> None:
    primary = opener.primary()
    source = opener.closing(ZODB.DB(primary))
    with source.transaction() as connection:
        connection.root.tree = OOBTree(dict.fromkeys(range(1000), "old"))
    secondary = opener.secondary(primary)
    wait_caught_up(primary, secondary)
    target = opener.closing(ZODB.DB(secondary))
    manager = transaction.TransactionManager()
    reading = target.open(manager)
    tree = reading.root.tree
    assert set(tree.values()) == {"old"}
    with source.transaction() as connection:
        for n in range(1000):
            connection.root.tree[n] = "new"
        connection.root.more = "more"
    wait_caught_up(primary, secondary)
    # A transaction keeps its view of the database, also of objects loaded later.
    reading.cacheMinimize()
    assert set(tree.values()) == {"old"}
    assert not hasattr(reading.root, "more")
    manager.begin()
    assert set(tree.values()) == {"new"}
    assert reading.root.more == "more"


def test_a_secondary_serves_applications_while_it_catches_up(opener: Opener) -> None:
    # Two counters are always changed together, so no reader may see them differ.
    primary = opener.primary()
    source = opener.closing(ZODB.DB(primary))
    with source.transaction() as connection:
        connection.root.a = OOBTree({"value": 0})
        connection.root.b = OOBTree({"value": 0})
    secondary = opener.secondary(primary)
    wait_caught_up(primary, secondary)
    target = opener.closing(ZODB.DB(secondary))
    manager = transaction.TransactionManager()
    reading = target.open(manager)
    seen = set()
    for n in range(1, 101):
        with source.transaction() as connection:
            connection.root.a["value"] = connection.root.b["value"] = n
        manager.begin()
        reading.root.a._p_invalidate()
        assert reading.root.a["value"] == reading.root.b["value"]
        seen.add(reading.root.b["value"])
    wait_caught_up(primary, secondary)
    manager.begin()
    assert reading.root.a["value"] == reading.root.b["value"] == 100
    assert len(seen) > 1
