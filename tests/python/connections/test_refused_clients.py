"""Clients that break the protocol."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from replicas.transactions import commit
from replicas.waiting import wait_until
from streams.messages import Z64, decode
from streams.sockets import connect, name_of, receive, receive_messages
from zc.zrs.primary import Primary

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

HIGH = b"\x7f" * 8
MESSAGES_OF_A_TRANSACTION = 4  # T, S, its data, C


@pytest.fixture
def primary(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Primary]:
    caplog.set_level(logging.INFO, "zc.zrs.primary")
    primary = Primary(str(tmp_path / "Data.fs"), ("127.0.0.1", 0))
    yield primary
    primary.close()


@pytest.fixture
def bystander(primary: Primary) -> Iterator[socket.socket]:
    """Run a well-behaved secondary that has everything and receives later transactions."""
    commit(primary, {1: b"first"})
    with connect(primary.address, b"zrs2.0", Z64) as client:
        stream = receive_messages(client, MESSAGES_OF_A_TRANSACTION)
        yield client
        tid = commit(primary, {2: b"second"})
        stream += receive_messages(client, MESSAGES_OF_A_TRANSACTION)
    first, second = decode(stream, Z64)
    assert [record.data for record in first.records + second.records] == [b"first", b"second"]
    assert second.tid == tid


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([b"zrs9.9"], "Invalid protocol b'zrs9.9'"),
        ([b""], "Invalid protocol b''"),
        ([b"zrs2.0xxxxxxx"], "message too large: (8, 13)"),
        ([b"zrs2.0", b"x" * 9], "message too large: (8, 9)"),
        ([b"zrs2.0", b"abc"], "Invalid transaction id, b'abc'"),
        ([b"zrs2.0", b""], "Invalid transaction id, b''"),
        ([b"zrs2.0", Z64, b"abc"], "Too many messages"),
        ([b"zrs2.1", Z64, b"", b"", Z64], "Too many messages"),
    ],
)
@pytest.mark.usefixtures("bystander")
def test_broken_protocol_ends_the_connection(
    primary: Primary,
    messages: list[bytes],
    error: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with connect(primary.address, *messages) as client:
        name = name_of(client)
        wait_for_the_end(client)
    check_log(caplog, name, error)


@pytest.mark.usefixtures("bystander")
def test_start_above_the_last_transaction_ends_the_connection(
    primary: Primary, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(primary.address, b"zrs2.0", HIGH) as client:
        name = name_of(client)
        assert receive(client, 1) == b""
    check_log(caplog, name, f"0x{HIGH.hex()}")


def test_announced_length_is_enough_to_refuse(
    primary: Primary, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(primary.address) as client:
        client.sendall(b"\xff\xff\xff\xff")
        name = name_of(client)
        assert receive(client, 1) == b""
    check_log(caplog, name, "message too large: (8, 4294967295)")


def wait_for_the_end(client: socket.socket) -> None:
    """Read until the primary ends the connection."""
    while client.recv(1 << 16):
        pass


def check_log(caplog: pytest.LogCaptureFixture, name: str, error: str) -> None:
    """Check that the log has one error, the closing and the end, and no other error."""

    def of_this_client() -> list[tuple[int, str]]:
        return [
            (record.levelno, record.getMessage().removeprefix(f"{name}: "))
            for record in caplog.records
            if record.name == "zc.zrs.primary" and record.getMessage().startswith(name)
        ]

    wait_until(lambda: "Disconnected" in of_this_client()[-1][1])
    connected, *start, refused, closed, disconnected = of_this_client()
    assert connected == (logging.INFO, "Connected")
    assert all(text.startswith("start ") for _, text in start)
    if error.startswith("0x"):
        assert refused[0] == logging.ERROR
        assert error in refused[1]
    else:
        assert refused == (logging.ERROR, error)
    assert closed == (logging.INFO, "Closed")
    assert disconnected[0] == logging.INFO
    assert disconnected[1].startswith("Disconnected ")
    errors = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(errors) == 1


def test_the_log_identifies_a_client_that_speaks_http(
    primary: Primary, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(primary.address) as client:
        client.sendall(b"GET /live HTTP/1.1\r\nHost: primary\r\n\r\n")
        assert receive(client, 1) == b""
    wait_until(lambda: "looks like HTTP" in caplog.text)
