"""Sized messages: a big-endian length of four bytes, then that many bytes."""

from collections.abc import Callable, Sequence
from struct import Struct

_length = Struct(">I")

DEFAULT_LIMIT = 1 << 32


class LimitExceeded(Exception):  # noqa: N818 -- the name that users of zc.zrs know
    """A message is longer than allowed; the arguments are the limit and its length."""


def marshal(message: bytes) -> bytes:
    """Return the message, preceded by its length.

    Raises `struct.error` if it has 4 GiB or more.
    """
    return _length.pack(len(message)) + message


def marshals(messages: Sequence[bytes]) -> tuple[bytes, Sequence[bytes]]:
    """Return the length prefix of a message that consists of several pieces, and the pieces."""
    return _length.pack(sum(map(len, messages))), messages


class Stream:
    """Splits a stream of bytes into messages: call it with each piece received.

    Calls `callback` with each complete message. Raises `LimitExceeded` as soon as a length
    above `limit` bytes is received, and at each later call.
    """

    def __init__(self, callback: Callable[[bytes], object], limit: int = DEFAULT_LIMIT) -> None:
        self._callback = callback
        self._limit = limit
        self._received = bytearray()
        self._failure: LimitExceeded | None = None

    def __call__(self, data: bytes) -> None:
        """Process the stream's next bytes."""
        if self._failure is not None:
            raise self._failure
        self._received += data
        start = 0
        try:
            while (message := self._message_at(start)) is not None:
                # Removed before the call, so that a message is delivered once even if the call
                # raises.
                start += _length.size + len(message)
                self._callback(message)
        finally:
            del self._received[:start]

    def _message_at(self, start: int) -> bytes | None:
        begin = start + _length.size
        if len(self._received) < begin:
            return None
        (length,) = _length.unpack_from(self._received, start)
        if length > self._limit:
            self._failure = LimitExceeded(self._limit, length)
            raise self._failure
        if len(self._received) < begin + length:
            return None
        return bytes(self._received[begin : begin + length])
