"""The client's end of a replication connection, on plain sockets."""

from __future__ import annotations

import socket
from typing import Any

from streams.messages import LENGTH, sized


def connect(address: Any, *messages: bytes) -> socket.socket:
    """Connect to a primary on TCP and send these messages."""
    client = socket.create_connection(address, 60)
    client.sendall(b"".join(map(sized, messages)))
    return client


def name_of(client: socket.socket) -> str:
    """Return a client's address in the form of the primary's log."""
    host, port = client.getsockname()
    return f"IPv4Address(TCP, '{host}', {port})"


def receive(connection: socket.socket, length: int) -> bytes:
    """Return this many bytes, or fewer if the peer ends the connection first."""
    data = b""
    while len(data) < length and (more := connection.recv(length - len(data))):
        data += more
    return data


def receive_messages(connection: socket.socket, count: int) -> bytes:
    """Return this many messages, with their lengths."""
    stream = b""
    for _ in range(count):
        length = receive(connection, LENGTH.size)
        stream += length + receive(connection, *LENGTH.unpack(length))
    return stream
