"""Replication on a Twisted reactor that runs in a thread."""

from __future__ import annotations

import logging
import shutil
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import transaction
import ZODB
from twisted.internet.error import CannotListenError
from ZODB.FileStorage import FileStorage

import zc.zrs.reactor
from programs import free_port
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary
from zc.zrs.twisted_driver.secondary import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TIMEOUT = 30.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {TIMEOUT} seconds"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def reactor() -> Any:
    # It cannot be restarted, so it is left running.
    return zc.zrs.reactor.reactor()


@pytest.fixture
def in_reactor(reactor: Any) -> Callable[[Callable[[], Any]], Any]:
    """Call a function in the reactor's thread and return what it returns."""

    def call(func: Callable[[], Any]) -> Any:
        outcome: list[Any] = []
        done = threading.Event()

        def run() -> None:
            try:
                outcome.append(func())
            except BaseException as error:  # noqa: BLE001 - raised in the test
                outcome.append(error)
            done.set()

        reactor.callFromThread(run)
        assert done.wait(TIMEOUT)
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    return call


class Pair:
    """A database on a primary, and its secondary."""

    def __init__(self, directory: Path, reactor: Any, addr: Any) -> None:
        self.primary_path = directory / "primary.fs"
        self.secondary_path = directory / "secondary.fs"
        self.primary = Primary(FileStorage(str(self.primary_path)), addr, reactor)
        self.reactor = reactor
        self.db = ZODB.DB(self.primary)
        self.connection = self.db.open()
        self.secondary: Secondary | None = None

    def connect(self, **options: Any) -> Secondary:
        self.secondary = Secondary(
            FileStorage(str(self.secondary_path)), self.primary.address, self.reactor, **options
        )
        return self.secondary

    def connect_plainly(self) -> socket.socket:
        address = self.primary.address
        assert isinstance(address, tuple)
        return socket.create_connection(address, TIMEOUT)

    def commit(self, count: int = 1, size: int = 100) -> None:
        for number in range(count):
            self.connection.root()["data"] = f"{number:010}" * (size // 10)
            transaction.commit()

    def wait_equal(self) -> None:
        secondary = self.secondary
        assert secondary is not None
        wait_until(
            lambda: secondary.lastTransaction() == self.primary.lastTransaction(), "replication"
        )

    def assert_files_equal(self) -> None:
        assert self.primary_path.read_bytes() == self.secondary_path.read_bytes()

    def close(self) -> None:
        transaction.abort()
        if self.secondary is not None:
            self.secondary.close()
        self.primary.close()


@pytest.fixture(params=["tcp", "unix"])
def pair(request: pytest.FixtureRequest, tmp_path: Path, reactor: Any) -> Iterator[Pair]:
    addr = ("127.0.0.1", 0) if request.param == "tcp" else str(tmp_path / "socket")
    pair = Pair(tmp_path, reactor, addr)
    yield pair
    pair.close()


def test_replicates_earlier_and_later_transactions(pair: Pair) -> None:
    pair.commit(20)
    pair.connect()
    pair.wait_equal()
    pair.commit(20)
    pair.wait_equal()
    pair.assert_files_equal()


def test_large_history_goes_through_a_full_transport(pair: Pair) -> None:
    pair.commit(50, size=100_000)
    pair.connect()
    pair.wait_equal()
    pair.assert_files_equal()


def test_closing_primary_lets_the_secondary_catch_up(pair: Pair) -> None:
    secondary = pair.connect()
    pair.commit(50, size=100_000)
    last = pair.primary.lastTransaction()
    pair.primary.close()
    wait_until(lambda: secondary.lastTransaction() == last, "catching up")
    pair.assert_files_equal()


def test_closing_primary_in_the_reactor_returns(
    pair: Pair, in_reactor: Callable[[Callable[[], Any]], Any]
) -> None:
    secondary = pair.connect()
    pair.commit(50, size=100_000)
    last = pair.primary.lastTransaction()
    in_reactor(pair.primary.close)
    wait_until(lambda: secondary.lastTransaction() == last, "catching up")
    pair.assert_files_equal()


def test_closing_secondary_in_the_reactor_returns(
    pair: Pair, in_reactor: Callable[[Callable[[], Any]], Any]
) -> None:
    pair.commit(20)
    secondary = pair.connect()
    pair.wait_equal()
    in_reactor(secondary.close)


def test_peers_can_be_made_in_the_reactor(
    tmp_path: Path, reactor: Any, in_reactor: Callable[[Callable[[], Any]], Any]
) -> None:
    pair = in_reactor(lambda: Pair(tmp_path, reactor, ("127.0.0.1", 0)))
    in_reactor(pair.connect)
    # A ZODB connection must be used in one thread.
    pair.connection = pair.db.open()
    pair.commit(3)
    pair.wait_equal()
    pair.close()
    pair.assert_files_equal()


def test_secondary_comes_back(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.commit(3)
    secondary = pair.connect(reconnect_delay=0.1)
    pair.wait_equal()
    address = pair.primary.address
    with caplog.at_level(logging.INFO, "zc.zrs"):
        pair.db.close()
        stopping = "Stopping factory <zc.zrs.secondary.SecondaryFactory object at 0x"
        wait_until(lambda: stopping in caplog.text, "disconnecting")
    pair.primary = Primary(FileStorage(str(pair.primary_path)), address, pair.reactor)
    pair.db = ZODB.DB(pair.primary)
    pair.connection = pair.db.open()
    pair.commit(3)
    wait_until(
        lambda: secondary.lastTransaction() == pair.primary.lastTransaction(), "coming back"
    )


def test_secondary_moves_at_once(tmp_path: Path, reactor: Any) -> None:
    pair = Pair(tmp_path, reactor, ("127.0.0.1", 0))
    pair.commit(3)
    secondary = pair.connect()
    pair.wait_equal()
    pair.db.close()
    pair.primary = Primary(FileStorage(str(pair.primary_path)), ("127.0.0.1", 0), reactor)
    pair.db = ZODB.DB(pair.primary)
    pair.connection = pair.db.open()
    pair.commit(3)
    secondary.setReplicationAddress(pair.primary.address)
    pair.wait_equal()
    pair.close()
    pair.assert_files_equal()


def test_secondary_tries_all_its_addresses(tmp_path: Path, reactor: Any) -> None:
    pair = Pair(tmp_path, reactor, ("127.0.0.1", 0))
    pair.commit(3)
    nobody = ("127.0.0.1", free_port())
    address = pair.primary.address
    assert isinstance(address, tuple)
    # With this delay, waiting before the next address would be noticed.
    secondary = pair.connect(reconnect_delay=3600)
    secondary.setReplicationAddresses([nobody, address])
    pair.wait_equal()
    # The connection is lost, and another address answers.
    path = tmp_path / "next.fs"
    shutil.copy(pair.primary_path, path)
    following = Primary(FileStorage(str(path)), ("127.0.0.1", 0), reactor)
    secondary.setReplicationAddresses([nobody, address, following.address])
    pair.db.close()
    pair.primary = following
    pair.db = ZODB.DB(following)
    pair.connection = pair.db.open()
    pair.commit(3)
    pair.wait_equal()
    pair.close()


def test_pauses_grow_up_to_the_reconnect_delay() -> None:
    backoff = Backoff(10)
    assert [backoff.pause() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    backoff.reset()
    assert [backoff.pause() for _ in range(2)] == [1, 2]
    backoff.session_ended()
    assert [backoff.pause() for _ in range(2)] == [10, 10]
    short = Backoff(0.1)
    assert [short.pause() for _ in range(2)] == [0.1, 0.1]


def test_address_in_use_is_an_error_at_once(tmp_path: Path, reactor: Any) -> None:
    pair = Pair(tmp_path, reactor, ("127.0.0.1", 0))
    other = FileStorage(str(tmp_path / "other.fs"))
    with pytest.raises(CannotListenError):
        Primary(other, pair.primary.address, reactor)
    other.close()
    pair.close()


def test_address_is_free_after_close(tmp_path: Path, reactor: Any) -> None:
    pair = Pair(tmp_path, reactor, ("127.0.0.1", 0))
    address = pair.primary.address
    pair.close()
    again = Primary(FileStorage(str(pair.primary_path)), address, reactor)
    assert again.address == address
    again.close()


def test_deadline_ends_a_secondary_that_does_not_read(
    tmp_path: Path, reactor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pair = Pair(tmp_path, reactor, ("127.0.0.1", 0))
    pair.primary.close()
    pair.primary = Primary(
        FileStorage(str(pair.primary_path)), ("127.0.0.1", 0), reactor, close_deadline=0.5
    )
    pair.db = ZODB.DB(pair.primary)
    pair.connection = pair.db.open()
    pair.commit(100, size=200_000)
    with pair.connect_plainly() as client:
        client.sendall(b"\0\0\0\6zrs2.0\0\0\0\10" + bytes(8))
        client.recv(1)
        with caplog.at_level(logging.INFO, "zc.zrs"):
            began = time.monotonic()
            pair.close()
            assert time.monotonic() - began < 5
        assert "Closed" in caplog.text
        assert "Disconnected" in caplog.text
    wait_until(
        lambda: not any(t.name.startswith("zrs stream to") for t in threading.enumerate()),
        "the end of the stream's thread",
    )


def test_broken_protocol_ends_the_connection(
    tmp_path: Path, reactor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pair = Pair(tmp_path, reactor, ("127.0.0.1", 0))
    with (
        caplog.at_level(logging.INFO, "zc.zrs"),
        pair.connect_plainly() as client,
    ):
        client.sendall(b"\0\0\0\6zrs9.9")
        assert client.recv(1) == b""
        wait_until(lambda: "Disconnected" in caplog.text, "disconnecting")
    assert "ERROR" in caplog.text
    pair.close()


def test_start_after_the_end_ends_the_connection(
    tmp_path: Path, reactor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pair = Pair(tmp_path, reactor, ("127.0.0.1", 0))
    with (
        caplog.at_level(logging.INFO, "zc.zrs"),
        pair.connect_plainly() as client,
    ):
        client.sendall(b"\0\0\0\6zrs2.0\0\0\0\10" + b"\x7f" * 8)
        assert client.recv(1) == b""
        wait_until(lambda: "Disconnected" in caplog.text, "disconnecting")
    assert "ERROR" in caplog.text
    pair.close()


def test_keep_alives_arrive(
    tmp_path: Path, reactor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pair = Pair(tmp_path, reactor, ("127.0.0.1", 0))
    with caplog.at_level(logging.DEBUG, "zc.zrs"):
        pair.connect(keep_alive_delay=0.05)
        wait_until(lambda: caplog.text.count("keep-alive") > 2, "keep-alives")
    pair.close()
