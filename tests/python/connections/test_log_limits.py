"""The log lines and characters that one host can cause are bounded."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest
import ZODB
import ZODB.FileStorage
from ZODB.blob import Blob
from ZODB.Connection import TransactionMetaData
from ZODB.utils import p64, u64

from replicas.opening import LOOPBACK
from replicas.waiting import wait_until
from streams.messages import Z64, header, sized, transaction
from streams.scripted_primary import playing
from zc.zrs._zrs import PrimaryPeer
from zc.zrs.filestorage import FileStorage
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from replicas.opening import Opener

CONNECTIONS = 200
LINES = 20
"""How many lines of each kind one host gets in ten seconds."""
KNOCK = b"\0\0\0\0" * 16
HANDSHAKE = sized(b"zrs2.1") + sized(Z64)
TID = bytes(7) + b"\5"
LONGEST = 1500


def garbage(_: int) -> bytes:
    return b"\xff" * 64


def tls(_: int) -> bytes:
    return b"\x16\x03\x01\x02\x00" + bytes(100)


def future(number: int) -> bytes:
    return sized(b"zrs2.1") + sized(struct.pack(">Q", (1 << 62) + number)) + KNOCK


@pytest.mark.parametrize("sent", [garbage, tls, future])
def test_the_connections_of_a_host_are_logged_at_a_bounded_rate(
    opener: Opener, caplog: pytest.LogCaptureFixture, sent: Callable[[int], bytes]
) -> None:
    primary = opener.primary()
    address: Any = primary.address
    caplog.clear()
    with caplog.at_level(logging.INFO):
        for number in range(CONNECTIONS):
            with socket.create_connection(address) as client, contextlib.suppress(OSError):
                client.sendall(sent(number))
                client.shutdown(socket.SHUT_WR)
                client.recv(1 << 16)
        wait_until(lambda: primary.status()["connections"] == 0)
    status = primary.status()
    assert status["connections_accepted"] == CONNECTIONS
    lines = [record.getMessage() for record in caplog.records]
    # Each kind may have begun another period meanwhile; on a slow machine, several.
    periods = 1 + (caplog.records[-1].created - caplog.records[0].created) // 10
    connected = [line for line in lines if line.endswith(": Connected")]
    assert LINES <= len(connected) <= LINES * (periods + 1)
    assert len(lines) <= 6 * LINES * (periods + 1)


def test_the_peers_of_a_reactor_share_the_bound(
    opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    feed = opener.primary()._Primary__feed
    caplog.clear()
    with caplog.at_level(logging.INFO):
        for port in range(CONNECTIONS):
            name = f"IPv4Address(TCP, '192.0.2.1', {port})"
            peer = PrimaryPeer(name, False, feed)  # noqa: FBT003 -- the native signature
            peer.connected()
            peer.receive_data(garbage(port))
            assert peer.next_event() == ("failed", None)
            peer.closed()
            peer.disconnected("done")
    lines = [record.getMessage() for record in caplog.records]
    periods = 1 + (caplog.records[-1].created - caplog.records[0].created) // 10
    assert len(lines) <= 4 * LINES * (periods + 1)


def test_data_from_a_primary_are_quoted_in_part(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = b"T" + struct.pack("<I", 120_000) + b"\xfe" * 120_000
    scripts = iter(
        [
            sized(transaction(TID)) + sized(header(b"C", long)),
            sized(header(b"T", long, b"N", b"N", b"N", b"}")),
        ]
    )
    with (
        playing(lambda _: [next(scripts, b"")], hang_up=True) as primary,
        contextlib.closing(
            Secondary(str(tmp_path / "S.fs"), primary.address, reconnect_delay=0.01)
        ) as secondary,
    ):
        wait_until(lambda: len(primary.starts) > len("ct"))
        errors = secondary.status()
    assert "bad checksum after transaction" in caplog.text
    assert "(120000 bytes)" in caplog.text
    assert max(len(record.getMessage()) for record in caplog.records) < LONGEST
    assert len(str(errors["last_error"])) < LONGEST


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("::ffff:10.0.0.0/90", "write the IPv4 network itself"),
        ("::10.0.0.0/104", "write the IPv4 network itself"),
        ("224.0.0.0/4", "multicast"),
        ("::", "unspecified"),
    ],
)
def test_networks_that_never_match_are_refused(
    tmp_path: Path, given: str, expected: str
) -> None:
    with pytest.raises(ValueError, match=expected) as caught:
        Primary(str(tmp_path / "P.fs"), LOOPBACK, allow=[given])
    assert given in str(caught.value)


def test_a_mapped_network_is_an_ipv4_network(opener: Opener) -> None:
    primary = opener.primary(allow=["::ffff:127.0.0.0/104"])
    address: Any = primary.address
    with socket.create_connection(address) as client:
        client.sendall(HANDSHAKE + KNOCK)
        assert client.recv(1)


def follow(primary: Primary, start: bytes = Z64) -> None:
    """Request everything after a transaction, and wait until it has been sent."""
    address: Any = primary.address
    with socket.create_connection(address) as client:
        client.sendall(sized(b"zrs2.1") + sized(start))
        name = f"IPv4Address(TCP, '127.0.0.1', {client.getsockname()[1]})"
        last = f"0x{primary.lastTransaction().hex()}"

        def follows() -> bool:
            peers = primary.status()["peers"]
            return any(
                peer["peer"] == name and peer["state"] == "following" and peer["tid"] == last
                for peer in peers
            )

        wait_until(follows)


def test_extensions_that_are_left_out_are_logged_at_a_bounded_rate(
    opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    primary = opener.primary()
    for _ in range(3 * LINES):
        meta = TransactionMetaData(extension=b"\xff no pickle")
        primary.tpc_begin(meta)
        primary.store(primary.new_oid(), Z64, b"data", "", meta)
        primary.tpc_vote(meta)
        primary.tpc_finish(meta)
    follow(primary)
    check_bounded(caplog, "is sent without its extension")


def test_blobs_that_are_left_out_are_logged_at_a_bounded_rate(
    opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    directory = opener.directory / "blobs"
    storage = FileStorage(str(opener.directory / "P.fs"), blob_dir=str(directory))
    primary = opener.closing(Primary(storage, LOOPBACK, missing_blobs="skip"))
    database = ZODB.DB(primary)
    with database.transaction() as connection:
        connection.root.blobs = [Blob(b"contents") for _ in range(3 * LINES)]
    for path in directory.rglob("*.blob"):
        path.unlink()
    follow(primary)
    check_bounded(caplog, "sent without its contents")


def test_histories_that_cannot_be_verified_are_logged_at_a_bounded_rate(
    opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(opener.directory / "P.fs")
    with contextlib.closing(ZODB.DB(ZODB.FileStorage.FileStorage(path))) as database:
        for number in range(3):
            with database.transaction() as connection:
                connection.root.number = number
        database.pack()
    primary = opener.primary(path)
    last = u64(primary.lastTransaction())
    for number in range(3 * LINES):
        follow(primary, p64(last - 1 - number))
    check_bounded(caplog, "cannot be ruled out")


def check_bounded(caplog: pytest.LogCaptureFixture, part: str) -> None:
    """Check that lines with this text were logged, and at most the bound for the periods."""

    def found() -> list[logging.LogRecord]:
        return [record for record in caplog.records if part in record.getMessage()]

    # A thread of the primary logs them.
    wait_until(lambda: len(found()) >= LINES)
    records = found()
    periods = 1 + (records[-1].created - records[0].created) // 10
    assert LINES <= len(records) <= LINES * periods
