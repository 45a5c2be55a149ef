"""Malformed streams: nothing of them reaches a secondary's file."""

from __future__ import annotations

import itertools
import logging
import random
from typing import TYPE_CHECKING, Any

import pytest

from replicas.waiting import wait_until
from streams.captures import Capture
from streams.messages import (
    Z64,
    header,
    short,
    sized,
    split_transactions,
    store,
    stream_after,
    transaction,
)
from streams.scripted_primary import playing
from zc.zrs import _zrs
from zc.zrs.applying.sink import StorageSink
from zc.zrs.secondary import Secondary
from zc.zrs.storages.engine import open_file_storage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streams.scripted_primary import ScriptedPrimary

pytestmark = pytest.mark.both_engines

CAPTURE = Capture("py38-undo")
TID_1, TID_2, TID_3 = (
    bytes.fromhex(f"03d4dc00{end}") for end in ("04444444", "08888888", "0ccccccc")
)
OID = b"\0" * 7 + b"\1"
GOOD_TRANSACTION = transaction(TID_3)
GOOD_RECORD = [store(OID, TID_3), b"data"]

# Messages after two good transactions, and the log's text about them.
MALFORMED: dict[str, tuple[list[bytes], str]] = {
    "wrong digest": (
        [GOOD_TRANSACTION, *GOOD_RECORD, header(b"C", short(b"x" * 16))],
        "bad checksum",
    ),
    "no digest": ([GOOD_TRANSACTION, *GOOD_RECORD, header(b"C")], "bad checksum"),
    "unknown kind": ([header(b"X", short(TID_3))], "kind 'X'"),
    "unknown kind within": ([GOOD_TRANSACTION, header(b"X", b"N")], "kind 'X'"),
    "record outside": ([*GOOD_RECORD], "unexpected S message between transactions"),
    "end outside": ([header(b"C", short(b"x" * 16))], "unexpected C message between"),
    "transaction within": ([GOOD_TRANSACTION] * 2, "unexpected T message within a"),
    "same tid": ([transaction(TID_2)], f"0x{TID_2.hex()} does not come after"),
    "lower tid": ([transaction(TID_1)], f"0x{TID_1.hex()} does not come after"),
    "record of a later tid": (
        [GOOD_TRANSACTION, store(OID, b"\x7f" * 8)],
        "has the tid 0x7f7f7f7f7f7f7f7f",
    ),
    "short tid": ([transaction(TID_3[:7])], "an id of 7 bytes"),
    "long oid": ([GOOD_TRANSACTION, store(OID * 2, TID_3)], "an id of 16 bytes"),
    "version": (
        [GOOD_TRANSACTION, header(b"S", short(OID), short(TID_3), short(b"v"), b"N")],
        "version",
    ),
    "unfinished status": ([transaction(TID_3, status=b"c")], "status"),
    "undone status": ([transaction(TID_3, status=b"u")], "status"),
    "number for a user": ([transaction(TID_3, user=b"K\1")], "not bytes"),
    "too few fields": ([header(b"T", short(TID_3))], "five fields"),
    "global": ([transaction(TID_3, user=b"cos\nsystem\nU\4trueR")], "os.system"),
    "call": ([transaction(TID_3, user=b"cos\nsystem\n(U\4truetR")], "os.system"),
    "stack global": (
        [transaction(TID_3, user=b"X\2\0\0\0osX\6\0\0\0system\x93)R")],
        "malformed header",
    ),
    "global for a tid": ([header(b"S", b"cos\nsystem\n)R", *[b"N"] * 3)], "os.system"),
    "instance": ([transaction(TID_3, user=b"(U\4trueios\nsystem\n")], "malformed header"),
    "persistent id": ([transaction(TID_3, user=b"U\1xQ")], "malformed header"),
    "no pickle": ([b"\xff" * 10], "unknown pickle opcode 0xff"),
    "empty header": ([b""], "malformed header"),
    "half a header": ([GOOD_TRANSACTION[:-1]], "cut off"),
    "more than a header": ([GOOD_TRANSACTION + b"N."], "after the end"),
    "no tuple": ([b"U\1T."], "malformed header"),
    "wrong memo": ([transaction(TID_3, user=b"h\7")], "memo"),
}

# The same for announced lengths: the limits are 512 KiB for a header, 1 GiB for a record.
OVERSIZED = {
    "header": (b"\0\x08\0\1", "message too large: (524288, 524289)"),
    "highest": (b"\xff" * 4, "message too large: (524288, 4294967295)"),
    "record": (
        sized(GOOD_TRANSACTION) + sized(GOOD_RECORD[0]) + b"\x40\0\0\1",
        "message too large: (1073741824, 1073741825)",
    ),
}


def malformed() -> Iterator[object]:
    for name, (bodies, cause) in MALFORMED.items():
        yield pytest.param(b"".join(map(sized, bodies)), cause, id=name)
    for name, (tail, cause) in OVERSIZED.items():
        yield pytest.param(tail, cause, id=f"oversized {name}")


@pytest.mark.parametrize(("tail", "cause"), list(malformed()))
def test_malformed_stream_is_aborted_and_tried_again(
    tail: bytes, cause: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stream = CAPTURE.read(".wire")
    path = tmp_path / "Data.fs"
    storage = open_file_storage(str(path))
    seen = []

    def script(start: bytes) -> Iterator[bytes]:
        if start == Z64:
            yield first_transactions(stream, 2) + tail
        else:
            # When it reconnects, the secondary has aborted the transaction.
            seen.append((storage.tpc_transaction(), path.read_bytes()))
            yield stream_after(stream, start)

    with playing(script) as primary:
        replicate(storage, primary, CAPTURE.tids[-1])
    assert primary.starts == [Z64, TID_2]
    assert seen == [(None, CAPTURE.data_until(TID_2))]
    assert path.read_bytes() == CAPTURE.data
    (text,) = critical_lines(caplog)
    assert text.startswith(f"{primary.name}: ")
    assert cause in text


@pytest.mark.parametrize("capture", [Capture("py27-undo"), CAPTURE], ids=str)
def test_flipped_byte_never_reaches_the_file(
    capture: Capture, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stream = capture.read(".wire")
    ends = transaction_ends(stream)
    digests = [
        end - len(sized(found[-1]))
        for found, end in zip(split_transactions(stream), ends, strict=True)
    ]
    random_numbers = random.Random(0)  # noqa: S311 -- reproducible, not secret
    for position in range(len(stream)):
        damaged = bytearray(stream)
        damaged[position] ^= random_numbers.randrange(1, 256)
        whole = sum(end <= position for end in ends)
        caplog.clear()
        refused = apply(bytes(damaged), tmp_path / f"{position}.fs")
        applied = (tmp_path / f"{position}.fs").read_bytes()
        # Only the next digest covers the encoding of a digest.
        possible = 2 if position >= digests[whole] else 1
        tids = [Z64, *capture.tids][whole : whole + possible]
        assert applied in map(capture.data_until, tids)
        # If it is not refused, the secondary waits for more data, as for an increased length.
        assert len(critical_lines(caplog)) == refused


def apply(stream: bytes, path: Path) -> bool:
    """Apply a stream to a file, without sockets; return whether it was refused."""
    storage = open_file_storage(str(path))
    peer = _zrs.SecondaryPeer("peer", StorageSink(storage))
    peer.connected()
    accepted = peer.receive_data(stream)
    peer.disconnected("at the end of the test")
    assert storage.tpc_transaction() is None
    storage.close()
    return not accepted


@pytest.mark.parametrize("damage", ["flip", "truncate"])
def test_damage_on_the_way_is_repaired_by_the_next_connection(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At every byte of three transactions, over sockets."""
    capture = Capture("py27-undo")
    stream = capture.read(".wire")
    ends = transaction_ends(stream)
    for position in range(ends[2]):
        caplog.clear()
        whole = sum(end <= position for end in ends)
        path = tmp_path / f"{position}.fs"
        first = stream[:position]
        if damage == "flip":
            first += bytes([stream[position] ^ 0x41]) + stream[position + 1 : ends[2]]
        storage = open_file_storage(str(path))

        def script(start: bytes, first: bytes = first) -> Iterator[bytes]:
            yield first if len(primary.starts) == 1 else stream_after(stream, start)

        with playing(script, hang_up=True) as primary:
            replicate(storage, primary, capture.tids[-1])
        assert primary.starts[:2] == [Z64, [Z64, *capture.tids][whole]]
        assert path.read_bytes() == capture.data
        assert len(critical_lines(caplog)) <= (damage == "flip")


def replicate(storage: Any, primary: ScriptedPrimary, tid: bytes) -> None:
    """Run a secondary, which reconnects at once, until it has this transaction."""
    secondary = Secondary(storage, primary.address, reconnect_delay=0.001)
    try:
        wait_until(lambda: secondary.lastTransaction() == tid)
    finally:
        secondary.close()


def first_transactions(stream: bytes, count: int) -> bytes:
    """Return the stream up to the end of the transaction with this number."""
    return stream[: transaction_ends(stream)[count - 1]]


def transaction_ends(stream: bytes) -> list[int]:
    """Return the end position of each transaction in the stream."""
    lengths = [sum(len(sized(body)) for body in found) for found in split_transactions(stream)]
    return list(itertools.accumulate(lengths))


def critical_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the secondary's log messages of the highest level."""
    return [
        record.getMessage()
        for record in caplog.records
        if (record.name, record.levelno) == ("zc.zrs.secondary", logging.CRITICAL)
    ]
