"""Messages of the stream: framing, headers as Python 2 pickles them, an independent decoder.

It shares no code with the product, so that both do not have the same faults. The decoder's
unpickler accepts no globals except those for bytes.
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
    """Yield the bodies of the messages in a stream, which must end with a complete one."""
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
    """Return a C header with the current value of a digest."""
    return header(b"C", short(md5.digest()))


class Record(NamedTuple):
    """An S or B message with its data."""

    oid: bytes
    tid: bytes
    version: bytes
    data_txn: bytes | None
    data: bytes
    blocks: tuple[bytes, ...] | None


class Transaction(NamedTuple):
    """The fields of T, with the records up to C."""

    tid: bytes
    status: bytes
    user: bytes
    description: bytes
    extension: Any
    records: tuple[Record, ...]


class HeaderUnpickler(pickle.Unpickler):
    """Loads a header; Python 2's strings become text with the same code points."""

    def find_class(self, module: str, name: str) -> Any:
        """Allow only the globals that Python 3 writes for bytes."""
        if (module, name) == ("_codecs", "encode"):
            return codecs.encode
        if name == "bytes" and module in {"__builtin__", "builtins"}:
            return bytes
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a header")


def load(body: bytes) -> tuple[str, tuple[Any, ...]]:
    """Return the kind and fields of a header."""
    kind, fields = HeaderUnpickler(io.BytesIO(body), encoding="latin-1").load()
    return kind, fields


def decode(stream: bytes, start: bytes) -> list[Transaction]:
    """Check each digest of a stream from after `start`; return the transactions."""
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
    """Return a field's bytes, as written by either Python."""
    if isinstance(value, str):
        return value.encode("latin-1")
    assert isinstance(value, bytes)
    return value


def split_transactions(stream: bytes) -> list[list[bytes]]:
    """Return the bodies of each transaction's messages; the stream must not have blobs."""
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
    """Return the rest of a stream from zero after `start`, with new digests."""
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
