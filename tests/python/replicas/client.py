"""A client of a primary with its own implementation of the protocol."""

from __future__ import annotations

import hashlib
import pickle
import socket
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from replicas.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from zc.zrs.system.address import Address

ZERO_TID = bytes(8)


class Received(NamedTuple):
    """A transaction as received over the wire."""

    tid: bytes
    status: str
    user: bytes
    description: bytes
    extension: dict[str, Any]
    records: tuple[tuple[bytes, bytes, bytes | None, bytes | None], ...]


class Client:
    """Connects to a primary, requests everything after `start`, and checks each digest.

    `receive_buffer` is the size of the socket's receive buffer in bytes.
    """

    def __init__(
        self, address: Address, start: bytes = ZERO_TID, receive_buffer: int | None = None
    ) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        if not isinstance(address, str) and ":" in address[0]:
            family = socket.AF_INET6
        self.socket = socket.socket(family)
        self.socket.settimeout(DEADLINE)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        self._file = self.socket.makefile("rb")
        self._digest = hashlib.md5(start, usedforsecurity=False)
        self.send(b"zrs2.0")
        self.send(start)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def send(self, message: bytes) -> None:
        """Send a sized message; an empty one is a keep-alive."""
        self.socket.sendall(struct.pack(">I", len(message)) + message)

    def __iter__(self) -> Iterator[Received]:
        """Yield transactions until the primary closes the connection."""
        while (transaction := self.receive()) is not None:
            yield transaction

    def take(self, count: int) -> list[Received]:
        """Return the next `count` transactions; fail if the connection ends earlier."""
        received = [self.receive() for _ in range(count)]
        assert None not in received
        return received  # type: ignore[return-value]

    def receive(self) -> Received | None:
        """Return the next transaction, or None if the connection ends first."""
        header = self._message()
        if header is None:
            return None
        kind, fields = pickle.loads(header)
        assert kind == "T", kind
        records: list[tuple[bytes, bytes, bytes | None, bytes | None]] = []
        while True:
            before = self._digest.digest()
            kind, rest = pickle.loads(self._required_message())
            if kind == "C":
                assert rest == (before,)
                tid, status, user, description, extension = fields
                return Received(tid, status, user, description, extension, tuple(records))
            assert kind == "S", kind
            oid, tid, version, data_txn = rest
            assert version == ""
            records.append((oid, tid, self._required_message() or None, data_txn))

    def is_silent(self, seconds: float) -> bool:
        """Return whether nothing arrives for a while; call it only between transactions."""
        self.socket.settimeout(seconds)
        try:
            return not self._file.peek(1)
        except TimeoutError:
            # The file object refuses reads after a timeout; no data were lost.
            self._file = self.socket.makefile("rb")
            return True
        finally:
            self.socket.settimeout(DEADLINE)

    def _required_message(self) -> bytes:
        message = self._message()
        assert message is not None, "the connection ends in a transaction"
        return message

    def _message(self) -> bytes | None:
        size = self._file.read(4)
        if not size:
            return None
        (length,) = struct.unpack(">I", size)
        body = self._file.read(length)
        assert len(body) == length, "the connection ends in a message"
        self._digest.update(body)
        return body
