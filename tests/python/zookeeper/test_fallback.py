"""Clients that use a read-only server until a writable one is available."""

from __future__ import annotations

import contextlib
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
    from concurrent.futures import Future
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
    """Holds back answers to loads of a storage."""

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


@dataclass
class Left:
    """A client that has switched to a writable server with a call pending at the former one."""

    held: Held
    client: Any
    former: Any
    pending: Future[Any]
    registration: Any


@contextlib.contextmanager
def left_while_pending(zk: ZooKeeper, hosts: str, files: tuple[str, str]) -> Iterator[Left]:
    """Call a read-only server, and start a writable one before it answers."""
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
        yield Left(held, client, former, pending, registration)


def test_a_pending_call_is_answered_though_a_writable_server_appears(
    zk: ZooKeeper, hosts: str, files: tuple[str, str]
) -> None:
    with left_while_pending(zk, hosts, files) as left:
        assert not left.pending.done()
        left.held.allowed.set()
        data, _ = left.pending.result(DEADLINE)
        assert b"persistent.mapping" in data
        wait_until(lambda: left.former.closed, "the former connection is closed")
        # The former server's current data are not cached.
        assert left.client._cache.load(z64) is None
        assert left.client.load(z64)[0] == data
        left.registration.withdraw()
        left.client.close()


def test_closing_ends_calls_pending_at_the_former_server(
    zk: ZooKeeper, hosts: str, files: tuple[str, str]
) -> None:
    with left_while_pending(zk, hosts, files) as left:
        left.client.close()
        with pytest.raises(ClientDisconnected):
            left.pending.result(DEADLINE)
        assert left.former.closed
        left.held.allowed.set()


def test_a_former_server_that_does_not_answer_is_left(
    zk: ZooKeeper,
    hosts: str,
    files: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(zc.zkzeo.upgrade, "ANSWER_TIMEOUT", 0.5)
    with left_while_pending(zk, hosts, files) as left:
        with pytest.raises(ClientDisconnected, match="does not answer"):
            left.pending.result(DEADLINE)
        assert left.former.closed
        assert left.client.load(z64)
        left.held.allowed.set()
        left.client.close()
