"""Data from a primary do not change committed blobs before their digest is checked."""

from __future__ import annotations

import contextlib
import hashlib
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import ZODB.blob

from replicas.waiting import wait_until
from streams.messages import Z64, digest, header, short, sized, store, transaction
from streams.scripted_primary import playing
from zc.zrs import _zrs
from zc.zrs.applying import sink
from zc.zrs.applying.direct import direct_target
from zc.zrs.applying.sink import StorageSink
from zc.zrs.secondary import Secondary
from zc.zrs.storages.engine import open_file_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.both_engines

BLOB_STATE = b"\x80\x03cZODB.blob\nBlob\nq\x01.\x80\x03N."
FIRST, SECOND = (bytes(7) + bytes([number]) for number in (5, 9))
OID = bytes(7) + b"\7"
HIGHEST_OID = b"\x7f" + b"\xff" * 7


class Stream:
    """A primary's stream after `start`, with its digest."""

    def __init__(self, start: bytes) -> None:
        self._md5 = hashlib.md5(start, usedforsecurity=False)

    def say(self, *bodies: bytes) -> bytes:
        for body in bodies:
            self._md5.update(body)
        return b"".join(map(sized, bodies))

    def blob(self, oid: bytes, tid: bytes, *blocks: bytes) -> bytes:
        count = b"K" + bytes([len(blocks)])
        head = header(b"B", short(oid), short(tid), short(b""), b"N", count)
        return self.say(head, BLOB_STATE, *blocks)

    def commit(self) -> bytes:
        return self.say(digest(self._md5))


def first(stream: Stream) -> bytes:
    """Return a transaction with a blob."""
    return (
        stream.say(transaction(FIRST), store(Z64, FIRST), b"root")
        + stream.blob(OID, FIRST, b"precious")
        + stream.say(store(bytes(7) + b"\1", FIRST), b"behind it")
        + stream.commit()
    )


def file_storage(directory: Path) -> Any:
    return open_file_storage(str(directory / "S.fs"), blob_dir=str(directory / "blobs"))


def wrapped_storage(directory: Path) -> Any:
    storage = open_file_storage(str(directory / "S.fs"))
    return ZODB.blob.BlobStorage(str(directory / "blobs"), storage)


STORAGES = [file_storage, wrapped_storage]


def blobs(directory: Path) -> dict[str, bytes]:
    """Return the contents of the committed blobs."""
    top = directory / "blobs"
    return {
        str(path.relative_to(top)): path.read_bytes()
        for path in top.rglob("*.blob")
        if path.relative_to(top).parts[0] != "tmp"
    }


def temporary(directory: Path) -> list[Path]:
    return [path for path in (directory / "blobs/tmp").rglob("*") if path.name != ".lock"]


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Open a storage with blobs."""
    make: Callable[[Path], Any] = request.param
    with contextlib.closing(make(tmp_path)) as storage:
        yield storage


def peer_of(storage: Any) -> _zrs.SecondaryPeer:
    """Return the connected protocol of the Twisted driver that applies the stream."""
    sink = StorageSink(storage, direct_target(storage))
    peer = _zrs.SecondaryPeer("primary", sink, True)  # noqa: FBT003 -- the native signature
    peer.connected()
    return peer


def forged(stream: Stream) -> bytes:
    """Return the beginning of a transaction that has a blob of the preceding transaction."""
    return stream.say(transaction(SECOND)) + stream.blob(OID, FIRST, b"FORGED")


def aborted(stream: Stream) -> bytes:
    return forged(stream)


def committed(stream: Stream) -> bytes:
    return forged(stream) + stream.commit()


@pytest.mark.parametrize("sent", [aborted, committed])
def test_a_blob_of_an_earlier_transaction_stays(
    storage: Any, sent: Callable[[Stream], bytes], tmp_path: Path
) -> None:
    stream = Stream(Z64)
    peer = peer_of(storage)
    assert peer.receive_data(first(stream))
    before = blobs(tmp_path)
    assert list(before.values()) == [b"precious"]
    assert not peer.receive_data(sent(stream))
    peer.disconnected("gone")
    assert blobs(tmp_path) == before
    assert storage.lastTransaction() == FIRST
    assert temporary(tmp_path) == []


@pytest.mark.parametrize("sent", [aborted, committed])
def test_a_blob_of_an_earlier_transaction_stays_with_a_socket(
    storage: Any, sent: Callable[[Stream], bytes], tmp_path: Path
) -> None:
    def script(start: bytes) -> Iterator[bytes]:
        stream = Stream(start)
        yield first(stream) if start == Z64 else sent(stream)

    with (
        playing(script, hang_up=True, protocol=b"zrs2.1") as primary,
        contextlib.closing(Secondary(storage, primary.address, reconnect_delay=0.01)),
    ):
        wait_until(lambda: primary.starts.count(FIRST) > 1)
        assert list(blobs(tmp_path).values()) == [b"precious"]
        assert storage.lastTransaction() == FIRST


def wrong_digest(stream: Stream) -> bytes:
    return stream.say(header(b"C", short(b"x" * 16)))


def no_end(_: Stream) -> bytes:
    return b""


@pytest.mark.parametrize("end", [no_end, wrong_digest])
def test_nothing_happens_before_the_digest(
    storage: Any, end: Callable[[Stream], bytes], tmp_path: Path
) -> None:
    stream = Stream(Z64)
    peer = peer_of(storage)
    peer.receive_data(first(stream))
    before = blobs(tmp_path)
    begun = stream.say(transaction(SECOND), store(OID, SECOND), b"x")
    begun += stream.blob(OID, SECOND, b"new")
    assert peer.receive_data(begun + stream.say(store(HIGHEST_OID, SECOND), b"y"))
    assert blobs(tmp_path) == before
    peer.receive_data(end(stream))
    peer.disconnected("gone")
    assert blobs(tmp_path) == before
    assert temporary(tmp_path) == []
    assert storage.lastTransaction() == FIRST
    assert struct.unpack(">Q", storage.new_oid()) == (8,)


def test_a_blob_is_in_place_after_the_digest(storage: Any, tmp_path: Path) -> None:
    stream = Stream(Z64)
    peer = peer_of(storage)
    peer.receive_data(first(stream))
    sent = stream.say(transaction(SECOND)) + stream.blob(OID, SECOND, b"n", b"ew")
    sent += stream.blob(HIGHEST_OID, SECOND) + stream.commit()
    for byte in sent:
        assert peer.receive_data(bytes([byte]))
    peer.disconnected("gone")
    assert sorted(blobs(tmp_path).values()) == [b"", b"new", b"precious"]
    assert temporary(tmp_path) == []
    assert Path(storage.loadBlob(OID, FIRST)).read_bytes() == b"precious"
    assert Path(storage.loadBlob(OID, SECOND)).read_bytes() == b"new"
    assert [record.oid for record in next(iter(storage.iterator()))] == [
        Z64,
        OID,
        bytes(7) + b"\1",
    ]


def test_a_transaction_without_an_end_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sink, "MAX_RECORDS", 100)
    with contextlib.closing(wrapped_storage(tmp_path)) as storage:
        stream = Stream(Z64)
        peer = peer_of(storage)
        records = [(store(bytes(7) + bytes([number]), FIRST), b"x") for number in range(101)]
        assert peer.receive_data(stream.say(transaction(FIRST)))
        for record in records[:-1]:
            assert peer.receive_data(stream.say(*record))
        assert not peer.receive_data(stream.say(*records[-1]))
        peer.disconnected("gone")
        assert "has more than 100 records" in caplog.text
        assert storage.lastTransaction() in {None, Z64}
