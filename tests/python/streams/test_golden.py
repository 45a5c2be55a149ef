"""Recordings of zc.zrs: our secondary applies them, and our primary sends the same bytes."""

from __future__ import annotations

import random
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from replicas.transactions import commit
from replicas.waiting import wait_until
from streams.captures import (
    MAGIC_LENGTH,
    PLAIN_AND_UNDO,
    PYTHON2_MAGIC,
    STREAMS,
    Capture,
)
from streams.messages import Z64, decode
from streams.scripted_primary import playing
from streams.sockets import connect, receive, receive_messages
from zc.zrs import _zrs
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary
from zc.zrs.storages.engine import open_file_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.both_engines

WITH_BLOBS = Capture("py38-blob")
DOCUMENTS = [Capture("doc2007-primary"), Capture("doc2007-secondary")]


def in_one_piece(stream: bytes) -> Iterable[bytes]:
    return [stream]


def byte_by_byte(stream: bytes) -> Iterable[bytes]:
    return struct.unpack(f"{len(stream)}c", stream)


def in_random_pieces(stream: bytes) -> Iterable[bytes]:
    random_numbers = random.Random(len(stream))  # noqa: S311 -- reproducible, not secret
    while stream:
        length = random_numbers.choice([1, 2, 3, 5, 50, 500, 5000])
        yield stream[:length]
        stream = stream[length:]


@pytest.mark.parametrize("pieces", [in_one_piece, byte_by_byte, in_random_pieces])
@pytest.mark.parametrize("suffix", STREAMS)
@pytest.mark.parametrize("capture", PLAIN_AND_UNDO, ids=str)
def test_secondary_writes_the_recorded_file(
    capture: Capture, suffix: str, pieces: Callable[[bytes], Iterable[bytes]], tmp_path: Path
) -> None:
    path = tmp_path / "Data.fs"
    start = capture.start(suffix)
    if start != Z64:
        path.write_bytes(capture.data_until(start))
    stream = capture.read(suffix)
    storage = open_file_storage(str(path))
    with playing(lambda _start: pieces(stream)) as primary:
        secondary = Secondary(storage, primary.address)
        try:
            wait_until(lambda: secondary.lastTransaction() == capture.tids[-1])
        finally:
            secondary.close()
    assert primary.starts == [start]
    assert path.read_bytes() == capture.data


@contextmanager
def serving(capture: Capture, directory: Path) -> Iterator[Any]:
    """Serve a copy of a capture's file; yield the address.

    Files of Python 3 are served by ZODB's FileStorage and our `Primary`. ZODB on Python 3 does
    not open files of Python 2, so only the native reader and server are used for them.
    """
    data = capture.data
    if capture.python2:
        data = PYTHON2_MAGIC + data[MAGIC_LENGTH:]
    path = directory / "Data.fs"
    path.write_bytes(data)
    server: Any
    if capture.python2:
        feed = _zrs.Feed(str(path), last_tid(path))
        server = _zrs.PrimaryServer(feed, ("127.0.0.1", 0), "python2")
    else:
        server = Primary(str(path), ("127.0.0.1", 0))
    try:
        yield server.address
    finally:
        server.close()


def last_tid(path: Path) -> bytes:
    reader = _zrs.TransactionReader(str(path))
    tid = Z64
    while record := reader.next():
        tid = record.tid
    return tid


@pytest.mark.parametrize("suffix", STREAMS)
@pytest.mark.parametrize("capture", PLAIN_AND_UNDO, ids=str)
def test_primary_sends_the_recorded_bytes(
    capture: Capture, suffix: str, tmp_path: Path
) -> None:
    # No capture has an extension, as shown below, so all bytes must be the same.
    expected = capture.read(suffix)
    with (
        serving(capture, tmp_path) as address,
        connect(address, b"zrs2.0", capture.start(suffix)) as client,
    ):
        assert receive(client, len(expected)) == expected
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)


@pytest.mark.parametrize("suffix", STREAMS)
@pytest.mark.parametrize("capture", [*PLAIN_AND_UNDO, WITH_BLOBS], ids=str)
def test_no_capture_has_an_extension(capture: Capture, suffix: str) -> None:
    transactions = decode(capture.read(suffix), capture.start(suffix))
    assert [found.tid for found in transactions] == [
        tid for tid in capture.tids if tid > capture.start(suffix)
    ]
    assert [found.extension for found in transactions] == [{}] * len(transactions)


@pytest.mark.parametrize("wire_pickles", ["python2", "python3"])
def test_extension_is_sent_with_its_value(wire_pickles: Any, tmp_path: Path) -> None:
    extension = {"path": "/site/café", "count": 70_000, "parts": [1.5, None, ("a", {"b": -1})]}
    primary = Primary(str(tmp_path / "Data.fs"), ("127.0.0.1", 0), wire_pickles=wire_pickles)
    try:
        tid = commit(
            primary, {1: b"data"}, user="frédéric", description="a ☃", extension=extension
        )
        with connect(primary.address, b"zrs2.0", Z64) as client:
            stream = receive_messages(client, 4)
    finally:
        primary.close()
    (found,) = decode(stream, Z64)
    assert found.tid == tid
    assert found.user == "frédéric".encode()
    assert found.description == "a ☃".encode()
    assert found.extension == extension
    assert [record.data for record in found.records] == [b"data"]


@pytest.fixture(params=DOCUMENTS, ids=str)
def document(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Capture, Any]]:
    with serving(request.param, tmp_path) as address:
        yield request.param, address


def test_files_of_2007_replicate(document: tuple[Capture, Any], tmp_path: Path) -> None:
    capture, address = document
    facts: Any = capture.facts
    copy = tmp_path / "copy.fs"
    secondary = Secondary(str(copy), address)
    try:
        wait_until(lambda: secondary.lastTransaction().hex() == facts[-1]["tid"])
    finally:
        secondary.close()
    assert copy.read_bytes() == capture.data
