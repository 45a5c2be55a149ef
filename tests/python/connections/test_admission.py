"""Access to a primary: allowed networks, number of connections, handshake timeout."""

from __future__ import annotations

import logging
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from replicas.opening import tcp_address
from replicas.transactions import commit
from replicas.waiting import wait_caught_up, wait_until
from streams.messages import Z64, sized
from streams.sockets import connect, name_of, receive_messages

if TYPE_CHECKING:
    from replicas.opening import Opener
    from zc.zrs.primary import Primary


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING
    ]


def is_closed_at_once(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def from_address(primary: Primary, address: str) -> socket.socket:
    return socket.create_connection(tcp_address(primary), 60, source_address=(address, 0))


def test_only_those_allowed_get_anything(
    opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    primary = opener.primary(addr=("0.0.0.0", 0), allow=["127.0.0.1", "127.1.0.0/16"])  # noqa: S104
    commit(primary, {0: b"data"})
    handshake = sized(b"zrs2.0") + sized(Z64)
    for address in "127.0.0.1", "127.1.2.3":
        with from_address(primary, address) as client:
            client.sendall(handshake)
            assert receive_messages(client, 4)
    assert not warnings(caplog)
    for address in "127.0.0.2", "127.2.0.1":
        with from_address(primary, address) as client:
            assert is_closed_at_once(client)
            name = name_of(client)
        wait_until(lambda: warnings(caplog), "it is logged")
        assert warnings(caplog) == [
            f"{name}: connection refused: address not in the allow list"
        ]
        caplog.clear()
    assert primary.status()["connections_refused"] == {"not allowed": 2}
    assert primary.status()["connections_accepted"] == 2


def test_a_unix_socket_counts_as_this_machine(opener: Opener) -> None:
    primary = opener.primary(addr=str(opener.directory / "socket"), allow=["10.0.0.0/8"])
    secondary = opener.secondary(primary)
    commit(primary, {0: b"data"})
    wait_caught_up(primary, secondary)


def test_many_refusals_are_few_lines(opener: Opener, caplog: pytest.LogCaptureFixture) -> None:
    primary = opener.primary(allow=[])
    count = 200
    for _ in range(count):
        with socket.create_connection(tcp_address(primary), 60) as client:
            assert is_closed_at_once(client)
    wait_until(lambda: primary.status()["connections_refused"] == {"not allowed": count})
    # At most ten lines in ten seconds, and this may have taken longer than ten.
    assert 10 <= len(warnings(caplog)) < count / 2


@pytest.mark.parametrize("allow", [["localhost"], ["10.0.0.0/33"], [""]])
def test_invalid_networks_are_refused(opener: Opener, allow: list[str]) -> None:
    with pytest.raises(ValueError, match="neither an address nor a network"):
        opener.primary(allow=allow)


def test_a_string_is_not_a_list_of_networks(opener: Opener) -> None:
    with pytest.raises(TypeError, match=r"10\.0\.0\.1"):
        opener.primary(allow="10.0.0.1")


def test_the_number_of_connections_is_bounded(
    opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    primary = opener.primary(max_connections=3)
    tid = commit(primary, {0: b"data"})
    clients = [opener.client(primary) for _ in range(3)]
    assert [client.take(1)[0].tid for client in clients] == [tid] * 3
    with socket.create_connection(tcp_address(primary), 60) as client:
        assert is_closed_at_once(client)
        name = name_of(client)
    wait_until(lambda: warnings(caplog), "it is logged")
    assert warnings(caplog) == [f"{name}: connection refused: there are 3 connections already"]
    assert primary.status()["connections_refused"] == {"too many connections": 1}
    clients[0].close()
    wait_until(lambda: primary.status()["connections"] == 2)
    assert opener.client(primary).take(1)[0].tid == tid


DEADLINE = 0.5


@pytest.mark.parametrize("trickling", [False, True])
def test_a_connection_that_sends_nothing_or_little_is_dropped(
    opener: Opener, caplog: pytest.LogCaptureFixture, trickling: bool
) -> None:
    primary = opener.primary(handshake_deadline=DEADLINE)
    other = opener.client(primary)
    with connect(primary.address) as client:
        name = name_of(client)
        began = time.monotonic()
        if trickling:
            client.settimeout(0.1)
            for byte in sized(b"zrs2.0") + sized(Z64):
                client.sendall(bytes([byte]))
                try:
                    assert client.recv(1) == b""
                    break
                except TimeoutError:
                    pass
            else:
                raise AssertionError("a handshake of 22 bytes took longer than the deadline")
        else:
            assert client.recv(1) == b""
        assert time.monotonic() - began > DEADLINE / 2
    wait_until(lambda: warnings(caplog), "it is logged")
    assert warnings(caplog) == [f"{name}: no handshake within 0.5 s"]
    assert primary.status()["errors_by_kind"] == {"handshake": 1}
    # A secondary that has sent its start position may stay silent.
    tid = commit(primary, {0: b"data"})
    assert other.take(1)[0].tid == tid


@pytest.mark.parametrize("option", ["max_connections", "handshake_deadline"])
def test_a_reactor_has_no_such_options(opener: Opener, option: str) -> None:
    with pytest.raises(ValueError, match=option):
        opener.primary(reactor=object(), **dict[str, Any]({option: 1}))
