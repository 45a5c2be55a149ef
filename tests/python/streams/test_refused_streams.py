"""A control message ends a stream once, with either driver; damage matters only if needed."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest

import zc.zrs.reactor
from replicas.opening import tcp_address
from replicas.statuses import last_error
from replicas.transactions import commit, read_transactions
from replicas.waiting import DEADLINE, wait_until
from zc.zrs.filestorage import FileStorage

if TYPE_CHECKING:
    from pathlib import Path

    from replicas.opening import Opener

BOUND = 10_000
"""More bytes than a refusal has."""


def message(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@pytest.mark.parametrize("driver", ["tokio", "twisted"])
def test_a_refused_secondary_gets_one_refusal_and_the_end(
    opener: Opener, driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "zc.zrs.primary")
    reactor: Any = zc.zrs.reactor.reactor() if driver == "twisted" else None
    primary = opener.primary(FileStorage(str(opener.path)), reactor=reactor)
    commit(primary, {1: b"data"})
    with socket.create_connection(tcp_address(primary), DEADLINE) as client:
        start = b"\x7f" + b"\xff" * 7
        client.sendall(message(b"zrs2.1") + message(start) + message(b"") * 16)
        received = b""
        while len(received) < BOUND and (data := client.recv(1 << 16)):
            received += data
    assert received.count(b"zrs:refused") == 1
    assert len(received) < BOUND
    assert caplog.text.count("histories diverged") == 1


def damage(path: Path, number: int) -> None:
    """Overwrite the length of one transaction of a Data.fs."""
    found = read_transactions(path)[number]
    before = read_transactions(path)[number - 1].end if number else 4
    assert found.end > before
    with path.open("r+b") as file:
        file.seek(before + 8)
        file.write(struct.pack(">Q", 1))


@pytest.mark.parametrize("number", [0, 100])
def test_damage_that_a_secondary_does_not_need_does_not_stop_it(
    opener: Opener, number: int
) -> None:
    storage = FileStorage(str(opener.path))
    for count in range(600):
        commit(storage, {count % 7: b"data %d" % count})
    storage.close()
    opener.copy.write_bytes(opener.path.read_bytes())
    primary = opener.primary(FileStorage(str(opener.path)))
    damage(opener.path, number)
    secondary = opener.secondary(primary)
    last = commit(primary, {1: b"more"})
    wait_until(lambda: secondary.lastTransaction() == last)


def test_a_secondary_that_needs_damaged_data_is_notified(opener: Opener) -> None:
    storage = FileStorage(str(opener.path))
    for count in range(20):
        commit(storage, {count % 7: b"data %d" % count})
    storage.close()
    primary = opener.primary(FileStorage(str(opener.path)))
    damage(opener.path, 10)
    secondary = opener.secondary(primary)
    wait_until(lambda: "primary" in secondary.status()["errors_by_kind"])
    assert "the primary's file is damaged" in last_error(secondary)["message"]
    assert secondary.lastTransaction() == read_transactions(opener.copy)[-1].tid
