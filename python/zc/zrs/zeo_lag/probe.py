"""Queries of ZEO servers with the command ``ruok``.

ZEO servers accept ``ruok`` in place of a client's protocol version, answer with their own
version and a JSON message, and close the connection. Each message is a big-endian length of
four bytes and a body (`ZEO.asyncio.server`, `ZEO.nagios`).
"""

import json
import re
import socket
import struct
import time

from persistent.timestamp import TimeStamp

from zc.zrs.system.address import Address, address_to_connect

DEFAULT_TIMEOUT = 10.0
"""Timeout for the complete answer of a server, in seconds."""

_MAX_ANSWER = 16 * 1024 * 1024
_LENGTH = struct.Struct(">I")
_QUESTION = _LENGTH.pack(4) + b"ruok"
_TID = re.compile("[0-9a-f]{16}")


class ProtocolError(Exception):
    """The answer is not that of a ZEO server; the argument is the reason."""


def last_transactions(addr: Address, timeout: float = DEFAULT_TIMEOUT) -> dict[str, bytes]:
    """Return the last transaction id of each storage of a server, zeros if it has none.

    Raises `OSError` if it cannot be reached or does not answer in time, and `ProtocolError` if
    the answer is not that of a ZEO server.
    """
    end = time.monotonic() + timeout
    with _connected(address_to_connect(addr), timeout) as server:
        server.settimeout(_left(end))
        server.sendall(_QUESTION)
        _receive(server, end)
        return _parse(_receive(server, end))


def committed(tid: bytes) -> float:
    """Return the commit time of a transaction id, in seconds since 1970."""
    time_of: float = TimeStamp(tid).timeTime()
    return time_of


def _connected(addr: Address, timeout: float) -> socket.socket:
    if isinstance(addr, tuple):
        try:
            return socket.create_connection(addr, timeout)
        except UnicodeError as error:
            raise OSError(f"{addr[0]!r} is not a host name") from error
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout)
        connection.connect(addr)
    except BaseException:
        connection.close()
        raise
    return connection


def _left(end: float) -> float:
    if (left := end - time.monotonic()) <= 0:
        raise TimeoutError("timed out")
    return left


def _receive(server: socket.socket, end: float) -> bytes:
    (length,) = _LENGTH.unpack(_receive_exactly(server, _LENGTH.size, end))
    if length > _MAX_ANSWER:
        raise ProtocolError(f"received a message of {length} bytes")
    return _receive_exactly(server, length, end)


def _receive_exactly(server: socket.socket, size: int, end: float) -> bytes:
    received = bytearray()
    while len(received) < size:
        server.settimeout(_left(end))
        data = server.recv(min(size - len(received), 65536))
        if not data:
            raise ProtocolError(
                f"the connection was closed after {len(received)} of {size} bytes"
            )
        received += data
    return bytes(received)


def _parse(answer: bytes) -> dict[str, bytes]:
    try:
        storages = json.loads(answer)
        tids = {name: status["last-transaction"] for name, status in storages.items()}
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ProtocolError(f"{answer[:60]!r} is not a status of storages") from error
    for name, tid in tids.items():
        if not isinstance(tid, str) or not _TID.fullmatch(tid):
            raise ProtocolError(f"{tid!r} is not a transaction id (storage {name!r})")
    return {name: bytes.fromhex(tid) for name, tid in tids.items()}
