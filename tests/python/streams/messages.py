"""Messages of the stream: framing, headers in Python 2's manner, a decoder of its own.

It shares no code with the product, so that both can be wrong only independently. The
decoder loads headers with an unpickler that knows no global but those that spell bytes.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import pickle
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

LENGTH = struct.Struct(">I")
Z64 = b"\0" * 8


def sized(body: bytes) -> bytes:
    """Return a message: its length, then the body."""
    return LENGTH.pack(len(body)) + body


def split(stream: bytes) -> Iterator[bytes]:
    """Yield the bodies of the messages in a stream, which must end with a whole one."""
    at = 0
    while at < len(stream):
        (length,) = LENGTH.unpack_from(stream, at)
        at += LENGTH.size + length
        assert at <= len(stream), "the stream ends within a message"
        yield stream[at - length : at]


def short(value: bytes) -> bytes:
    """Pickle a string of less than 256 bytes, without `STOP`."""
    return b"U" + bytes([len(value)]) + value


def header(kind: bytes, *fields: bytes) -> bytes:
    """Return a header of pickled fields."""
    return b"(" + short(kind) + b"(" + b"".join(fields) + b"tt."


def transaction(
    tid: bytes, *, user: bytes = short(b""), extension: bytes = b"}", status: bytes = b" "
) -> bytes:
    """Return a T header; `user` and `extension` are pickled values."""
    return header(b"T", short(tid), short(status), user, short(b""), extension)


def store(oid: bytes, tid: bytes, data_txn: bytes | None = None) -> bytes:
    """Return an S header."""
    back = b"N" if data_txn is None else short(data_txn)
    return header(b"S", short(oid), short(tid), short(b""), back)


def digest(md5: Any) -> bytes:
    """Return a C header with the present value of a digest."""
    return header(b"C", short(md5.digest()))


class Record(NamedTuple):
    """An S or B message, with the data that follow it."""

    oid: bytes
    tid: bytes
    version: bytes
    data_txn: bytes | None
    data: bytes
    blocks: tuple[bytes, ...] | None


class Transaction(NamedTuple):
    """What T tells, with the records up to C."""

    tid: bytes
    status: bytes
    user: bytes
    description: bytes
    extension: Any
    records: tuple[Record, ...]


class HeaderUnpickler(pickle.Unpickler):
    """Loads a header; Python 2's strings become text of the same code points."""

    def find_class(self, module: str, name: str) -> Any:
        """Allow what Python 3 writes for bytes, and nothing else."""
        if (module, name) == ("_codecs", "encode"):
            return codecs.encode
        if name == "bytes" and module in {"__builtin__", "builtins"}:
            return bytes
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a header")


def load(body: bytes) -> tuple[str, tuple[Any, ...]]:
    """Return a header's kind and fields."""
    kind, fields = HeaderUnpickler(io.BytesIO(body), encoding="latin-1").load()
    return kind, fields


def decode(stream: bytes, start: bytes) -> list[Transaction]:
    """Return the transactions of a stream from after `start`, having checked each digest."""
    bodies = split(stream)
    md5 = hashlib.md5(start, usedforsecurity=False)

    def take() -> bytes:
        body = next(bodies)
        md5.update(body)
        return body

    transactions = []
    for begin in bodies:
        md5.update(begin)
        kind, (tid, status, user, description, extension) = load(begin)
        assert kind == "T"
        records = []
        while True:
            so_far = md5.digest()
            kind, fields = load(take())
            if kind == "C":
                assert as_bytes(fields[0]) == so_far
                break
            oid, serial, version, data_txn, *blocks = fields
            assert kind == ("B" if blocks else "S")
            data = take()
            records.append(
                Record(
                    as_bytes(oid),
                    as_bytes(serial),
                    as_bytes(version),
                    data_txn and as_bytes(data_txn),
                    data,
                    tuple(take() for _ in range(blocks[0])) if blocks else None,
                )
            )
        transactions.append(
            Transaction(
                as_bytes(tid),
                as_bytes(status),
                as_bytes(user),
                as_bytes(description),
                extension,
                tuple(records),
            )
        )
    return transactions


def as_bytes(value: Any) -> bytes:
    """Return a field's bytes, whichever Python wrote it."""
    if isinstance(value, str):
        return value.encode("latin-1")
    assert isinstance(value, bytes)
    return value


def split_transactions(stream: bytes) -> list[list[bytes]]:
    """Return the bodies of each transaction's messages; the stream must be without blobs."""
    transactions: list[list[bytes]] = []
    bodies = split(stream)
    for body in bodies:
        kind = load(body)[0]
        if kind == "T":
            transactions.append([])
        transactions[-1].append(body)
        if kind == "S":
            transactions[-1].append(next(bodies))
    return transactions


def stream_after(stream: bytes, start: bytes) -> bytes:
    """Return what follows the transaction `start` in a stream from zero, digests anew."""
    md5 = hashlib.md5(start, usedforsecurity=False)
    out = b""
    for begin, *records, _commit in split_transactions(stream):
        if as_bytes(load(begin)[1][0]) <= start:
            continue
        for body in (begin, *records):
            md5.update(body)
            out += sized(body)
        end = digest(md5)
        md5.update(end)
        out += sized(end)
    return out
