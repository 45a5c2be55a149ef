"""Clients that take a read-only server while there is no other, and go to a writable one."""

from __future__ import annotations

import contextlib
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import ZODB
from ZEO.Exceptions import ClientDisconnected
from ZEO.StorageServer import StorageServer
from ZODB.FileStorage import FileStorage
from ZODB.utils import z64

import zc.zkzeo
import zc.zkzeo.upgrade
from replicas.waiting import DEADLINE, wait_until
from zookeeper.zeo import PATH, commit, server_address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zc.zk import ZooKeeper


@contextlib.contextmanager
def serving(storage: FileStorage, *, read_only: bool = False) -> Iterator[tuple[str, int]]:
    """Serve a storage to ZEO clients; yield the address."""
    server = StorageServer(("127.0.0.1", 0), {"1": storage}, read_only=read_only)
    server.start_thread()
    try:
        yield server.acceptor.addr[:2]
    finally:
        server.close()


class Held:
    """Loads of a storage, which are answered when that is allowed."""

    def __init__(self, storage: FileStorage) -> None:
        self._load = storage.loadBefore
        self.asked = threading.Event()
        self.allowed = threading.Event()
        storage.loadBefore = self

    def __call__(self, oid: bytes, tid: bytes) -> Any:
        self.asked.set()
        self.allowed.wait(DEADLINE)
        return self._load(oid, tid)


@pytest.fixture
def files(zk: ZooKeeper, tmp_path: Path) -> tuple[str, str]:
    """Make a database and a copy."""
    zk.create_recursive(PATH)
    one, two = str(tmp_path / "One.fs"), str(tmp_path / "Two.fs")
    db = ZODB.DB(one)
    commit(db, x=1)
    db.close()
    shutil.copy(one, two)
    return one, two


def test_a_call_that_is_pending_is_answered_though_a_writable_server_comes(
    zk: ZooKeeper, hosts: str, files: tuple[str, str]
) -> None:
    copy = FileStorage(files[0], read_only=True)
    held = Held(copy)
    with (
        ThreadPoolExecutor(1) as thread,
        serving(copy, read_only=True) as first,
        serving(FileStorage(files[1])) as second,
    ):
        registration = zk.register_server(PATH, first)
        client = zc.zkzeo.client(hosts, PATH, read_only_fallback=True)
        former = client._server.client.protocol
        pending = thread.submit(client.load, z64)
        assert held.asked.wait(DEADLINE)
        zk.register_server(PATH, second)
        wait_until(lambda: server_address(client) == second)
        assert not pending.done()
        held.allowed.set()
        data, _ = pending.result(DEADLINE)
        assert b"persistent.mapping" in data
        wait_until(lambda: former.closed, "the former connection is closed")
        # What the former server said of the present is not kept.
        assert client._cache.load(z64) is None
        assert client.load(z64)[0] == data
        registration.withdraw()
        client.close()


def test_closing_ends_what_is_pending_at_the_former_server(
    zk: ZooKeeper, hosts: str, files: tuple[str, str]
) -> None:
    copy = FileStorage(files[0], read_only=True)
    held = Held(copy)
    with (
        ThreadPoolExecutor(1) as thread,
        serving(copy, read_only=True) as first,
        serving(FileStorage(files[1])) as second,
    ):
        zk.register_server(PATH, first)
        client = zc.zkzeo.client(hosts, PATH, read_only_fallback=True)
        former = client._server.client.protocol
        pending = thread.submit(client.load, z64)
        assert held.asked.wait(DEADLINE)
        zk.register_server(PATH, second)
        wait_until(lambda: server_address(client) == second)
        client.close()
        with pytest.raises(ClientDisconnected):
            pending.result(DEADLINE)
        assert former.closed
        held.allowed.set()


def test_a_former_server_that_does_not_answer_is_left(
    zk: ZooKeeper,
    hosts: str,
    files: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(zc.zkzeo.upgrade, "ANSWER_TIMEOUT", 0.5)
    copy = FileStorage(files[0], read_only=True)
    held = Held(copy)
    with (
        ThreadPoolExecutor(1) as thread,
        serving(copy, read_only=True) as first,
        serving(FileStorage(files[1])) as second,
    ):
        zk.register_server(PATH, first)
        client = zc.zkzeo.client(hosts, PATH, read_only_fallback=True)
        former = client._server.client.protocol
        pending = thread.submit(client.load, z64)
        assert held.asked.wait(DEADLINE)
        zk.register_server(PATH, second)
        wait_until(lambda: server_address(client) == second)
        with pytest.raises(ClientDisconnected, match="does not answer"):
            pending.result(DEADLINE)
        assert former.closed
        assert client.load(z64)
        held.allowed.set()
        client.close()
