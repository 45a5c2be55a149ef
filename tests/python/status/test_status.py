"""The status of primaries and secondaries."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

from replicas.opening import tcp_address
from replicas.statuses import last_error
from replicas.transactions import commit
from replicas.waiting import wait_caught_up, wait_until
from streams.scripted_primary import playing
from streams.sockets import connect
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary

if TYPE_CHECKING:
    import pytest

    from replicas.opening import Opener

MEGABYTE = 1 << 20
TOLD = 2000
"""More than the bytes with which a primary says, in a few seconds, that it is alive."""


def shown(tid: bytes) -> str:
    return f"0x{tid.hex()}"


def only_peer(primary: Primary) -> dict[str, Any]:
    (peer,) = wait_until(lambda: primary.status()["peers"], "there is a peer")
    return dict(peer)


def test_a_pair_that_is_up_to_date(opener: Opener) -> None:
    before = time.time()
    primary = opener.primary()
    for n in range(5):
        commit(primary, {n: b"x" * 1000})
    secondary = opener.secondary(primary)
    wait_caught_up(primary, secondary)
    last = shown(primary.lastTransaction())

    # Sent bytes are counted a moment later.
    wait_until(lambda: primary.status()["transactions"] == 5)
    status = primary.status()
    assert status["state"] == "listening"
    assert tuple(status["address"]) == primary.address
    assert status["tid"] == last
    assert before <= status["started"] <= time.time()
    assert (status["connections"], status["connections_accepted"]) == (1, 1)
    assert status["errors"] == 0
    assert status["last_error"] is None
    assert status["missing_blobs"] == 0
    assert status["bytes"] > 5000
    (peer,) = status["peers"]
    assert peer["peer"].startswith("IPv4Address(TCP, '127.0.0.1', ")
    assert peer["tid"] == last
    assert (peer["lag_transactions"], peer["lag_bytes"], peer["lag_seconds"]) == (0, 0, 0)
    assert (peer["state"], peer["tls"]) == ("following", False)
    assert (peer["transactions"], peer["bytes"]) == (5, status["bytes"])
    assert before <= peer["since"] <= (peer["last_sent"] or 0) <= time.time()

    wait_until(lambda: secondary.status()["transactions"] == 5)
    copy = secondary.status()
    assert copy["state"] == "following"
    assert copy["address"] == primary.address
    assert copy["connected"]
    assert copy["tid"] == last
    assert abs(copy["bytes"] - peer["bytes"]) < TOLD
    assert (copy["connections"], copy["reconnects"]) == (1, 0)
    assert copy["last_error"] is None
    assert before <= (copy["last_applied"] or 0) <= time.time()
    json.dumps([primary.status(), secondary.status()], allow_nan=False)


def test_rates_are_those_of_the_last_seconds(opener: Opener) -> None:
    primary = opener.primary()
    secondary = opener.secondary(primary)
    tids = [commit(primary, {0: b"x" * 1000}) for _ in range(20)]
    wait_caught_up(primary, secondary)
    for replica in primary, secondary:
        wait_until(lambda: replica.status()["transactions"] == len(tids))  # noqa: B023
        # Once the current second is over, all of them are in the mean of ten full seconds.
        wait_until(lambda: replica.status()["transactions_per_second"] == 2)  # noqa: B023
        status = replica.status()
        assert abs(status["bytes_per_second"] - status["bytes"] / 10) < TOLD / 10


def test_lag_of_a_peer_that_does_not_read(opener: Opener) -> None:
    primary = opener.primary()
    commit(primary, {0: b"first"})
    opener.client(primary, receive_buffer=4096)
    wait_until(lambda: primary.status()["transactions"] == 1)
    sizes = [primary.getSize()]
    for n in range(20):
        commit(primary, {n: b"x" * MEGABYTE})
        sizes.append(primary.getSize())
    # Data in socket buffers count as sent; the rest does not.
    peer = only_peer(primary)
    lag = peer["lag_transactions"]
    assert 10 <= lag <= 20
    assert peer["lag_bytes"] == sizes[-1] - sizes[20 - lag]
    time.sleep(0.05)
    assert peer["lag_seconds"] < only_peer(primary)["lag_seconds"] < 60
    assert peer["state"] in {"following", "catching up"}


def test_lag_of_transactions_from_before_the_primary_was_opened(opener: Opener) -> None:
    first = opener.primary()
    for n in range(20):
        commit(first, {n: b"x" * MEGABYTE})
    first.close()
    primary = opener.primary()
    opener.client(primary, receive_buffer=4096)
    wait_until(lambda: only_peer(primary)["lag_bytes"])
    peer = only_peer(primary)
    assert peer["lag_transactions"] is None
    assert peer["lag_bytes"] > 10 * MEGABYTE


def test_a_silent_peer_is_in_its_handshake(opener: Opener) -> None:
    primary = opener.primary()
    with socket.create_connection(tcp_address(primary)):
        peer = only_peer(primary)
        assert (peer["state"], peer["tid"], peer["lag_transactions"]) == (
            "handshake",
            None,
            None,
        )
    wait_until(lambda: primary.status()["connections"] == 0)
    assert primary.status()["connections_accepted"] == 1


def test_errors_of_clients_are_counted_and_the_last_is_reported(opener: Opener) -> None:
    primary = opener.primary()
    before = time.time()
    for protocol in b"zrs9.8", b"zrs9.9":
        with connect(primary.address, protocol) as client:
            assert client.recv(1) == b""
    with connect(primary.address, b"zrs2.0", b"\x7f" * 8) as client:
        assert client.recv(1) == b""
    wait_until(lambda: primary.status()["connections"] == 0)
    status = primary.status()
    assert status["errors"] == 3
    assert status["errors_by_kind"]["protocol"] == 2
    last = last_error(primary)
    assert "0x" + "7f" * 8 in last["message"]
    assert last["peer"].startswith("IPv4Address")
    assert before <= last["time"] <= time.time()


def test_a_secondary_without_a_primary(opener: Opener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nowhere = server.getsockname()
    secondary = opener.secondary(nowhere)
    wait_until(lambda: secondary.status()["failed_attempts"] > 1)
    status = secondary.status()
    assert status["state"] in {"connecting", "waiting"}
    assert (status["connected"], status["peer"], status["tid"]) == (False, None, None)
    last = last_error(secondary)
    assert last["peer"] == str(nowhere)
    assert "refused" in last["message"]
    secondary.close()
    assert secondary.status()["state"] == "stopped"


def test_a_secondary_that_reconnects(opener: Opener) -> None:
    primary = opener.primary()
    secondary = opener.secondary(primary)
    address = primary.address
    for n in range(3):
        commit(primary, {n: b"data"})
        wait_caught_up(primary, secondary)
        primary.close()
        assert primary.status()["state"] == "stopped"
        primary = opener.primary(addr=address)
    wait_until(lambda: secondary.status()["reconnects"] == 3)
    wait_until(lambda: secondary.status()["transactions"] == 3)


def test_a_stream_that_cannot_be_applied(opener: Opener) -> None:
    with playing(lambda _: [b"\0\0\0\1x"]) as scripted:
        secondary = opener.secondary(scripted.address)
        wait_until(lambda: secondary.status()["errors"])
        status = secondary.status()
        assert status["errors_by_kind"]["protocol"] >= 1
        last = last_error(secondary)
        assert last["peer"] == scripted.name
        assert "malformed header" in last["message"]
        secondary.close()


def test_a_cascading_secondary_reports_both_roles(opener: Opener) -> None:
    first = opener.primary()
    middle = Primary(str(opener.directory / "middle.fs"), ("127.0.0.1", 0))
    secondary = opener.closing(Secondary(middle, first.address, reconnect_delay=0.2))
    leaf = opener.secondary(middle, str(opener.directory / "leaf.fs"))
    tid = commit(first, {0: b"data"})
    wait_caught_up(first, leaf)
    status = secondary.status()
    assert status["tid"] == shown(tid)
    assert status["primary"]["tid"] == shown(tid)
    assert status["primary"]["connections"] == 1


class RefusingDatabase:
    """A database that refuses notifications at first."""

    refusing = True

    def invalidate(self, *_: Any) -> None:
        if self.refusing:
            raise RuntimeError("no room in the queue")

    def transform_record_data(self, data: bytes) -> bytes:
        return data

    untransform_record_data = transform_record_data

    def __repr__(self) -> str:
        return "<a refusing database>"


def test_a_refusing_database_is_reported_and_delays_visibility(
    opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    primary = opener.primary()
    secondary = opener.secondary(primary)
    database = RefusingDatabase()
    secondary.registerDB(database)
    commit(primary, {0: b"data"})
    wait_until(lambda: secondary.status()["errors"] > 1)
    message = last_error(secondary)["message"]
    assert "<a refusing database> cannot be notified of transaction 0x" in message
    assert "no room in the queue" in message
    assert any(message in record.getMessage() for record in caplog.records)
    assert secondary.lastTransaction() == bytes(8)
    database.refusing = False
    wait_caught_up(primary, secondary)
