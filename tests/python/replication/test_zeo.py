"""A ZEO server of a secondary: its clients see every change, and only complete ones."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZEO.ClientStorage import ClientStorage
from ZEO.StorageServer import StorageServer

from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOOPBACK = ("127.0.0.1", 0)


def wait_for(condition: Callable[[], object], timeout: float = 15) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "timeout"
        time.sleep(0.005)


class Site:
    """A primary in use, a secondary, and a ZEO server of the secondary."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stack = contextlib.ExitStack()
        self.primary = Primary(directory / "primary.fs", LOOPBACK)
        self.db = ZODB.DB(self.primary)
        self.stack.callback(self.db.close)
        self.commit(0)
        self.open_secondary()

    def open_secondary(self) -> None:
        self.secondary = Secondary(
            self.directory / "secondary.fs", self.primary.address, reconnect_delay=0.2
        )
        self.stack.callback(self.secondary.close)
        self.catch_up()

    def commit(self, number: int) -> None:
        """Give two objects the same number."""
        with self.db.transaction() as connection:
            root = connection.root()
            for name in "one", "two":
                root.setdefault(name, PersistentMapping())["number"] = number

    def catch_up(self) -> None:
        wait_for(lambda: self.secondary.lastTransaction() == self.primary.lastTransaction())

    def commit_and_catch_up(self, number: int) -> None:
        self.commit(number)
        self.catch_up()

    def serve(self, **options: Any) -> StorageServer:
        server = StorageServer(LOOPBACK, {"1": self.secondary}, **options)
        server.start_thread()
        self.stack.callback(server.close)
        return server

    def client(self, server: StorageServer, **options: Any) -> Any:
        storage = ClientStorage(
            server.acceptor.addr, read_only=True, wait=True, wait_timeout=10, **options
        )
        self.stack.callback(storage.close)
        return storage


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    with site.stack:
        yield site


def numbers(connection: Any) -> tuple[int, int]:
    root = connection.root()
    return root["one"]["number"], root["two"]["number"]


def test_each_change_arrives_whole_without_reconnecting(site: Site) -> None:
    client = site.client(site.serve())
    connection = ZODB.DB(client).open(transaction.TransactionManager())
    assert numbers(connection) == (0, 0)
    generation = client._connection_generation
    for number in range(1, 51):
        site.commit(number)
        wait_for(lambda: client.lastTransaction() == site.primary.lastTransaction())
        connection.sync()
        assert numbers(connection) == (number, number)
    assert client._connection_generation == generation


def test_what_is_read_while_changes_stream_in_is_consistent_and_in_the_end_current(
    site: Site,
) -> None:
    client = site.client(site.serve())
    connection = ZODB.DB(client).open(transaction.TransactionManager())
    seen = []
    last = 0
    for number in range(1, 301):
        site.commit(number)
        if number % 3 == 0:
            connection.sync()
            # The objects are rarely in the connection's own cache.
            connection.cacheMinimize()
            one, two = numbers(connection)
            assert one == two
            assert one >= last
            seen.append(one)
            last = one
    assert len(set(seen)) > 3
    wait_for(lambda: client.lastTransaction() == site.primary.lastTransaction())
    connection.sync()
    assert numbers(connection) == (300, 300)


def test_a_client_that_missed_changes_receives_them_when_it_returns(site: Site) -> None:
    server = site.serve()
    cache = {"client": "kept", "var": str(site.directory)}
    client = site.client(server, **cache)
    db = ZODB.DB(client)
    assert numbers(db.open(transaction.TransactionManager())) == (0, 0)
    db.close()
    for number in 1, 2, 3:
        site.commit_and_catch_up(number)
    client = site.client(server, **cache)
    assert client._server.client.verify_result == "quick verification"
    assert numbers(ZODB.DB(client).open(transaction.TransactionManager())) == (3, 3)


def test_a_client_that_missed_changes_while_its_server_was_down_receives_them_too(
    site: Site,
) -> None:
    cache = {"client": "kept", "var": str(site.directory)}
    server = site.serve()
    db = ZODB.DB(site.client(server, **cache))
    assert numbers(db.open(transaction.TransactionManager())) == (0, 0)
    db.close()
    server.close()
    site.commit(1)
    site.open_secondary()
    client = site.client(site.serve(), **cache)
    assert client._server.client.verify_result == "quick verification"
    assert numbers(ZODB.DB(client).open(transaction.TransactionManager())) == (1, 1)


def test_a_client_that_missed_more_than_the_server_remembers_starts_over(site: Site) -> None:
    server = site.serve(invalidation_queue_size=3)
    cache = {"client": "kept", "var": str(site.directory)}
    db = ZODB.DB(site.client(server, **cache))
    assert numbers(db.open(transaction.TransactionManager())) == (0, 0)
    db.close()
    for number in range(1, 10):
        site.commit_and_catch_up(number)
    client = site.client(server, **cache)
    assert client._server.client.verify_result == "cache too old, clearing"
    assert numbers(ZODB.DB(client).open(transaction.TransactionManager())) == (9, 9)


def queued(server: StorageServer) -> list[bytes]:
    return [tid for tid, _ in server.invq["1"]]


def all_tids(storage: Any) -> list[bytes]:
    return [record.tid for record in storage.iterator()][::-1]


def test_commits_while_a_server_is_set_up_are_in_its_queue(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server first reads the last invalidations, and registers later."""
    set_up = StorageServer._setup_invq

    def set_up_and_commit(server: Any, name: str, storage: Any) -> None:
        set_up(server, name, storage)
        site.commit_and_catch_up(1)
        site.commit_and_catch_up(2)

    monkeypatch.setattr(StorageServer, "_setup_invq", set_up_and_commit)
    server = site.serve()
    site.commit_and_catch_up(3)
    assert queued(server) == all_tids(site.secondary)


def test_commits_before_a_server_can_have_clients_are_in_its_queue(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server first registers, and creates its list of clients later."""
    register = site.secondary.registerDB

    def register_and_commit(db: Any) -> None:
        register(db)
        site.commit_and_catch_up(1)

    monkeypatch.setattr(Secondary, "registerDB", lambda _, db: register_and_commit(db))
    server = site.serve()
    site.commit_and_catch_up(2)
    assert queued(server) == all_tids(site.secondary)
    assert [r for r in caplog.records if r.levelname in {"ERROR", "CRITICAL"}] == []


class Client:
    """A server's representation of a client."""

    def __init__(self, server: StorageServer, *, leaves: bool) -> None:
        self.told: list[bytes] = []
        self.connection = None
        self.server = server
        self.leaves = leaves
        server.register_connection("1", self)

    def async_threadsafe(self, _method: str, tid: bytes, _oids: Any) -> None:
        self.told.append(tid)
        if self.leaves:
            self.server.close_conn(self)


def test_a_client_is_notified_while_another_disconnects(site: Site) -> None:
    """A disconnect removes the client from the list over which the server iterates."""
    server = StorageServer(None, {"1": site.secondary})
    clients = [Client(server, leaves=number in {0, 2, 3}) for number in range(6)]
    site.commit_and_catch_up(1)
    tid = site.secondary.lastTransaction()
    assert [set(client.told) for client in clients if not client.leaves] == [{tid}] * 3
    assert len(server.zeo_storages_by_storage_id["1"]) == 3


def test_two_databases_are_notified_of_changes(site: Site) -> None:
    client = site.client(site.serve())
    here = ZODB.DB(site.secondary).open(transaction.TransactionManager())
    there = ZODB.DB(client).open(transaction.TransactionManager())
    assert numbers(here) == numbers(there) == (0, 0)
    site.commit_and_catch_up(1)
    wait_for(lambda: client.lastTransaction() == site.primary.lastTransaction())
    for connection in here, there:
        connection.sync()
        assert numbers(connection) == (1, 1)
