"""Streams that try to exhaust or crash the process of a real ``zrs secondary``."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from programs import ZRS, running
from replicas.waiting import wait_until
from streams.captures import Capture
from streams.messages import Z64, header, short, sized, store, transaction
from streams.scripted_primary import playing

if TYPE_CHECKING:
    from collections.abc import Iterator

CAPTURE = Capture("py38-undo")
TID = b"\3" + b"\0" * 7
MEMORY_LIMIT = 96 << 20
"""Bytes that a stream may make the process grow by: a header of 512 KiB may name a string,
nearly as long, some hundred times."""

LEVELS = 100_000


def long_string(length: int) -> bytes:
    return b"T" + struct.pack("<I", length) + b"x" * length


def named_outside(count: int) -> bytes:
    """Return a T header whose extension refers to earlier nested values."""
    nested = b"(" * count + b"t\x94" * count + b"0"
    names = b"".join(b"j" + struct.pack("<I", number) + b"N" for number in range(count))
    fields = [short(TID), short(b" "), short(b""), short(b"")]
    return header(b"T", nested, *fields, b"}(" + names + b"u")


def doubling(count: int) -> bytes:
    """Return nested tuples: each has the preceding one twice, to this depth."""
    return b"(t" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(count))


HEADERS = {
    "nested one-tuples": transaction(TID, user=b"N" + b"\x85" * LEVELS),
    "nested tuples": transaction(TID, user=b"(" * LEVELS + b"t" * LEVELS),
    "nested tuples, less": transaction(TID, user=b"(" * 30_000 + b"t" * 30_000),
    "nested lists": transaction(TID, user=b"]" * LEVELS + b"a" * LEVELS),
    "nested instead of fields": b"(" + short(b"S") + b"N" + b"\x85" * LEVELS + b"t.",
    "nested instead of a kind": b"(N" + b"\x85" * LEVELS + b"(tt.",
    "nested and dropped": transaction(TID, user=b"N" + b"\x85" * LEVELS + b"0" + short(b"")),
    "nested extension": transaction(TID, extension=b"N" + b"\x85" * LEVELS),
    "nested extension, less": transaction(TID, extension=b"N" + b"\x85" * 60_000),
    "doubling tuples": transaction(TID, user=doubling(100)),
    "doubling tuples in an extension": transaction(TID, extension=doubling(100)),
    "named outside the extension": named_outside(60_000),
    "named outside the extension, less": named_outside(5_000),
    "repeated string": transaction(
        TID, user=b"(" + long_string(400_000) + b"q\0" + b"h\0" * 60_000 + b"t"
    ),
    "repeated string, less": header(
        b"S", short(Z64), short(TID), long_string(500_000) + b"q\0", b"h\0" * 100
    ),
    "long number": transaction(TID, user=b"L" + b"9" * 500_000 + b"L\n"),
    "string longer than the header": transaction(TID, user=b"T\xff\xff\xff\x7fx"),
    "bytes longer than memory": transaction(TID, user=b"\x8e" + b"\xff" * 8),
    "long frame": b"\x80\4\x95" + b"\xff" * 8 + transaction(TID),
}

BEGUN = sized(transaction(TID)) + sized(store(Z64, TID))
MEBIBYTE = b"x" * (1 << 20)

# Announced but not sent: the connection ends instead.
SHORT_OF_WHAT_WAS_ANNOUNCED = {
    "header": b"\0\x08\0\0" + b"(",
    "record": BEGUN + b"\x40\0\0\0" + MEBIBYTE,
    "record, no byte of it": BEGUN + b"\x40\0\0\0",
}


class Host:
    """Observations of a ``zrs secondary`` that received this stream, then a good one."""

    def __init__(self, directory: Path, stream: bytes, *, hang_up: bool = False) -> None:
        golden = CAPTURE.read(".wire")
        memory: list[int] = []

        def script(_start: bytes) -> Iterator[bytes]:
            memory.append(peak_memory(program.pid))
            yield stream if len(memory) == 1 else golden

        path = directory / "Data.fs"
        with playing(script, hang_up=hang_up) as primary:
            command = [*ZRS, "secondary", path, "--from", "{}:{}".format(*primary.address)]
            with running([*command, "--reconnect-delay", "0.01"], directory / "log") as program:
                wait_until(
                    lambda: (
                        path.exists() and path.stat().st_size >= len(CAPTURE.data)
                        if program.running
                        else pytest.fail(f"the secondary's process ended: {program.log}")
                    )
                )
                self.status = program.end()
                self.log = program.log
        self.starts = primary.starts
        self.name = primary.name
        self.data = path.read_bytes()
        self.growth = memory[1] - memory[0]


def peak_memory(pid: int) -> int:
    """Return the peak memory of a process in bytes."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text("ascii"))
    assert found
    return int(found[1]) << 10


@pytest.mark.parametrize("message", HEADERS.values(), ids=HEADERS)
def test_hostile_header_costs_one_line_in_the_log(message: bytes, tmp_path: Path) -> None:
    # A header that may pass is followed by an invalid message.
    seen = Host(tmp_path, sized(message) + sized(b"no header"))
    (line,) = seen.log.splitlines()
    assert f"CRITICAL zc.zrs.secondary {seen.name}: " in line
    assert line.endswith("; transaction aborted, disconnecting")
    assert seen.starts[:2] == [Z64, Z64]
    assert seen.data == CAPTURE.data
    assert seen.growth < MEMORY_LIMIT
    assert seen.status == 0


@pytest.mark.parametrize(
    "stream", SHORT_OF_WHAT_WAS_ANNOUNCED.values(), ids=SHORT_OF_WHAT_WAS_ANNOUNCED
)
def test_announced_length_costs_no_memory(stream: bytes, tmp_path: Path) -> None:
    seen = Host(tmp_path, stream, hang_up=True)
    assert "CRITICAL" not in seen.log
    assert seen.starts[:2] == [Z64, Z64]
    assert seen.data == CAPTURE.data
    assert seen.growth < MEMORY_LIMIT
    assert seen.status == 0
