"""Connections: addresses, peers that do not read, and closing a primary."""

from __future__ import annotations

import contextlib
import logging
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ZODB.FileStorage import FileStorage

from replicas.client import Client
from replicas.comparison import assert_identical
from replicas.opening import tcp_address
from replicas.transactions import commit, read_transactions
from replicas.waiting import DEADLINE, last_transaction, wait_caught_up, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replicas.opening import Opener

MEGABYTE = 1 << 20


# --- peers that do not read, or slowly ---------------------------------------------


def test_a_stalled_client_delays_neither_commits_nor_others_nor_close(opener: Opener) -> None:
    primary = opener.primary(close_deadline=0.5)
    opener.client(primary, receive_buffer=4096)
    silent = opener.closing(socket.create_connection(tcp_address(primary)))
    secondary = opener.secondary(primary)
    for n in range(30):
        commit(primary, {n: b"x" * MEGABYTE})
    wait_caught_up(primary, secondary)
    assert_identical(opener.path, opener.copy)
    closing = threading.Thread(target=primary.close, daemon=True)
    closing.start()
    closing.join(DEADLINE / 2)
    assert not closing.is_alive()
    assert silent.recv(1) == b""


class SlowStorage(FileStorage):  # type: ignore[misc]
    """A file storage that finishes transactions slowly."""

    def tpc_finish(self, *args: Any) -> Any:
        time.sleep(0.005)
        return super().tpc_finish(*args)


def test_close_lets_slow_secondaries_catch_up(opener: Opener) -> None:
    primary = opener.primary(close_deadline=DEADLINE)
    secondary = opener.secondary(primary, SlowStorage(str(opener.copy)))
    commit(primary, {0: b"first"})
    wait_caught_up(primary, secondary)
    for n in range(200):
        commit(primary, {n: b"data" * 1000})
    last = primary.lastTransaction()
    primary.close()
    # The secondary may still be applying what was sent; nothing else arrives.
    wait_until(lambda: secondary.lastTransaction() == last, "the secondary has it all")
    assert_identical(opener.path, opener.copy)


def test_close_lets_slow_clients_read_to_the_end(opener: Opener) -> None:
    primary = opener.primary(close_deadline=DEADLINE)
    clients = [opener.client(primary, receive_buffer=4096) for _ in range(3)]
    tids = [commit(primary, {n: b"x" * 100_000}) for n in range(50)]
    for client in clients:
        client.take(1)
    closing = threading.Thread(target=primary.close, daemon=True)
    closing.start()
    received = []
    for client in clients:
        received.append([got.tid for got in client])
        client.close()
    closing.join(DEADLINE)
    assert not closing.is_alive()
    assert received == [tids[1:]] * 3


def test_a_closed_primary_refuses_connections(opener: Opener) -> None:
    primary = opener.primary()
    address = primary.address
    primary.close()
    primary.close()
    with pytest.raises(ConnectionRefusedError):
        Client(address)


def test_connections_come_and_go(opener: Opener) -> None:
    primary = opener.primary()
    tids = [commit(primary, {n: b"x" * 50_000}) for n in range(20)]
    for n in range(60):
        with opener.client(primary, receive_buffer=4096) as client:
            assert [got.tid for got in client.take(n % 4)] == tids[: n % 4]
    secondary = opener.secondary(primary)
    wait_caught_up(primary, secondary)
    assert_identical(opener.path, opener.copy)


# --- reconnecting -------------------------------------------------------------------


def test_a_secondary_waits_for_its_primary(opener: Opener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    secondary = opener.secondary(address)
    time.sleep(0.2)
    primary = opener.primary(addr=address)
    commit(primary, {0: b"data"})
    wait_caught_up(primary, secondary)


def test_a_secondary_follows_a_primary_that_comes_back(opener: Opener) -> None:
    primary = opener.primary()
    secondary = opener.secondary(primary)
    for n in range(4):
        commit(primary, {n: b"data"})
        address = primary.address
        primary.close()
        primary = opener.primary(addr=address)
    wait_caught_up(primary, secondary)
    assert_identical(opener.path, opener.copy)


def test_setReplicationAddress_moves_a_secondary_at_once(opener: Opener) -> None:
    # With this delay, waiting before connecting again would be noticed.
    first = opener.primary()
    secondary = opener.secondary(first, reconnect_delay=10 * DEADLINE)
    for n in range(10):
        commit(first, {n: b"on the first"})
    wait_caught_up(first, secondary)
    other_path = opener.directory / "other.fs"
    shutil.copy(opener.path, other_path)
    second = opener.primary(str(other_path))
    tid = commit(second, {0: b"on the second"})
    assert secondary.lastTransaction() < tid
    secondary.setReplicationAddress(second.address)
    wait_caught_up(second, secondary)
    for n in range(10):
        commit(second, {n: b"still on the second"})
    wait_caught_up(second, secondary)
    assert_identical(other_path, opener.copy)


def test_setReplicationAddress_leaves_an_address_without_a_listener(opener: Opener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nowhere = server.getsockname()
    secondary = opener.secondary(nowhere, reconnect_delay=10 * DEADLINE)
    primary = opener.primary()
    tid = commit(primary, {0: b"data"})
    secondary.setReplicationAddress(primary.address)
    wait_until(lambda: secondary.lastTransaction() == tid)


def test_setReplicationAddress_in_the_middle_of_a_stream(opener: Opener) -> None:
    first = opener.primary()
    for n in range(100):
        commit(first, {n: b"x" * 100_000})
    second_path = opener.directory / "second.fs"
    shutil.copy(opener.path, second_path)
    second = opener.primary(str(second_path))
    secondary = opener.secondary(first, reconnect_delay=10 * DEADLINE)
    addresses = [second.address, first.address]
    while secondary.lastTransaction() < first.lastTransaction():
        addresses.reverse()
        secondary.setReplicationAddress(addresses[0])
        time.sleep(0.01)
    assert_identical(opener.path, opener.copy)


# --- keep-alives --------------------------------------------------------------------


def test_keep_alives_are_sent(opener: Opener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        opener.secondary(server.getsockname(), keep_alive_delay=0.05)
        server.settimeout(DEADLINE)
        connection, _ = server.accept()
        with connection, connection.makefile("rb") as file:
            connection.settimeout(DEADLINE)
            assert file.read(10) == b"\0\0\0\6zrs2.0"
            assert file.read(12) == b"\0\0\0\10" + bytes(8)
            assert file.read(20) == bytes(20)


def test_no_keep_alives_unless_asked_for(opener: Opener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        opener.secondary(server.getsockname())
        server.settimeout(DEADLINE)
        connection, _ = server.accept()
        with connection, connection.makefile("rb") as file:
            assert len(file.read(22)) == 22
            connection.settimeout(0.3)
            with pytest.raises(TimeoutError):
                connection.recv(1)


def test_a_primary_takes_keep_alives(opener: Opener, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "zc.zrs.primary")
    primary = opener.primary()
    secondary = opener.secondary(primary, keep_alive_delay=0.02)

    def keep_alives() -> int:
        return sum("keep-alive" in record.getMessage() for record in caplog.records)

    wait_until(lambda: keep_alives() > 3)
    tid = commit(primary, {0: b"data"})
    wait_until(lambda: secondary.lastTransaction() == tid)


# --- addresses ----------------------------------------------------------------------


def test_a_unix_socket(opener: Opener) -> None:
    path = opener.directory / "socket"
    primary = opener.primary(addr=str(path))
    assert primary.address == str(path)
    secondary = opener.secondary(primary)
    commit(primary, {0: b"data"})
    wait_caught_up(primary, secondary)
    primary.close()
    assert not path.exists()


def test_a_unix_socket_that_a_dead_process_left_is_taken_over(opener: Opener) -> None:
    path = str(opener.directory / "socket")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    primary = opener.primary(addr=path)
    tid = commit(primary, {0: b"data"})
    assert opener.client(primary).take(1)[0].tid == tid


def test_a_unix_socket_that_is_served_is_refused(opener: Opener) -> None:
    path = str(opener.directory / "socket")
    primary = opener.primary(addr=path)
    with pytest.raises(OSError, match="socket"):
        opener.primary(str(opener.directory / "other.fs"), addr=path)
    tid = commit(primary, {0: b"data"})
    assert opener.client(primary).take(1)[0].tid == tid


def test_ipv6(opener: Opener) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no ::1")
    primary = opener.primary(addr=("::1", 0))
    host, port = tcp_address(primary)
    assert host == "::1"
    assert port
    secondary = opener.secondary(primary)
    tid = commit(primary, {0: b"data"})
    wait_caught_up(primary, secondary)
    assert opener.client(primary).take(1)[0].tid == tid


def test_an_empty_host_means_every_interface(opener: Opener) -> None:
    primary = opener.primary(addr=("", 0))
    secondary = opener.secondary(("", tcp_address(primary)[1]))
    commit(primary, {0: b"data"})
    wait_caught_up(primary, secondary)


def test_a_host_name(opener: Opener) -> None:
    primary = opener.primary(addr=("localhost", 0))
    secondary = opener.secondary(("localhost", tcp_address(primary)[1]))
    commit(primary, {0: b"data"})
    wait_caught_up(primary, secondary)


@pytest.mark.parametrize("alive", ["127.0.0.1", "::1"])
def test_a_host_name_with_a_dead_address(opener: Opener, alive: str) -> None:
    # One of the name's two addresses refuses connections, so the other is tried.
    found = {entry[4][0] for entry in socket.getaddrinfo("localhost", 0)}
    if found != {"127.0.0.1", "::1"}:
        pytest.skip(f"localhost is {found} here, not one address of each kind")
    primary = opener.primary(addr=(alive, 0))
    secondary = opener.secondary(("localhost", tcp_address(primary)[1]))
    commit(primary, {0: b"data"})
    wait_caught_up(primary, secondary)


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_in_use_is_named(opener: Opener) -> None:
    with taken_port() as port:
        with pytest.raises(OSError, match=str(port)) as raised:
            opener.primary(addr=("127.0.0.1", port))
        assert "127.0.0.1" in str(raised.value)
        # The storage that it opened is closed again.
        FileStorage(str(opener.path)).close()


def test_a_port_in_use_leaves_the_storage_given_open(opener: Opener) -> None:
    storage = FileStorage(str(opener.path))
    with taken_port() as port, pytest.raises(OSError, match=str(port)):
        opener.primary(storage, addr=("127.0.0.1", port))
    commit(storage, {0: b"data"})
    primary = opener.primary(storage)
    assert opener.client(primary).take(1)[0].tid == storage.lastTransaction()


def test_a_chain(opener: Opener) -> None:
    # A secondary cannot be wrapped in a primary, but its file can once it is closed.
    primary = opener.primary()
    secondary = opener.secondary(primary)
    with pytest.raises(TypeError, match="primary in a secondary"):
        opener.primary(secondary)
    commit(primary, {0: b"data"})
    wait_caught_up(primary, secondary)
    primary.close()
    secondary.close()
    promoted = opener.primary(str(opener.copy))
    second = opener.secondary(promoted, str(opener.directory / "second.fs"))
    commit(promoted, {1: b"after the primary's death"})
    wait_caught_up(promoted, second)
    assert_identical(opener.copy, opener.directory / "second.fs")
    assert len(read_transactions(opener.copy)) == 2
    assert last_transaction(second) == last_transaction(promoted)


def keep_alive_timers(port: int) -> list[str]:
    """Return the TCP timers of a port's connections on both sides; 02 is keep-alive."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ends = f":{port:04X}"
    established = [row for row in rows if row[3] == "01"]
    return [row[5].split(":")[0] for row in established if ends in row[1] + row[2]]


@pytest.mark.skipif(
    not Path("/proc/net/tcp").exists(), reason="timers are read from /proc/net/tcp"
)
def test_both_sides_enable_tcp_keep_alives(opener: Opener) -> None:
    primary = opener.primary()
    secondary = opener.secondary(primary)
    commit(primary, {0: b"data"})
    wait_caught_up(primary, secondary)
    port = tcp_address(primary)[1]
    wait_until(lambda: keep_alive_timers(port) == ["02", "02"])
