"""A primary that checks a handshake, and sends the bytes of a test."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

from streams.sockets import receive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

HANDSHAKE = struct.Struct(">I6sI8s")


class ScriptedPrimary:
    """Listens on a TCP port of this machine and serves one connection after another.

    `script` is called with the secondary's start tid in the server's thread, and yields the
    pieces to send. Afterwards the connection stays open until the secondary closes it; with
    `hang_up` it is closed at once.
    """

    def __init__(
        self,
        script: Callable[[bytes], Iterable[bytes]],
        *,
        hang_up: bool = False,
        protocol: bytes = b"zrs2.0",
    ) -> None:
        self._protocol = protocol
        self._script = script
        self._hang_up = hang_up
        self.starts: list[bytes] = []
        self.failures: list[BaseException] = []
        self._socket: socket.socket | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def name(self) -> str:
        """The address in the form of a secondary's log."""
        host, port = self.address
        return f"IPv4Address(TCP, '{host}', {port})"

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._socket = connection
            # A secondary may disconnect at any moment, which is not an error here.
            with connection, contextlib.suppress(ConnectionError):
                try:
                    self._serve(connection)
                except ConnectionError:
                    raise
                except BaseException as failure:  # noqa: BLE001 -- raised again by `close`
                    self.failures.append(failure)

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        handshake = receive(connection, HANDSHAKE.size)
        if not handshake:
            return
        length, protocol, tid_length, start = HANDSHAKE.unpack(handshake)
        assert (length, protocol, tid_length) == (6, self._protocol, 8)
        self.starts.append(start)
        for piece in self._script(start):
            connection.sendall(piece)
        while not self._hang_up and connection.recv(1 << 10):
            pass

    def close(self) -> None:
        """Stop, and raise errors of the server's thread."""
        # Only closing the socket would not wake the thread.
        for held in (self._listener, self._socket):
            if held is not None:
                with contextlib.suppress(OSError):
                    held.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(60)
        assert not self._thread.is_alive()
        for failure in self.failures:
            raise failure


@contextlib.contextmanager
def playing(
    script: Callable[[bytes], Iterable[bytes]],
    *,
    hang_up: bool = False,
    protocol: bytes = b"zrs2.0",
) -> Iterator[ScriptedPrimary]:
    """Serve a script while the block runs."""
    primary = ScriptedPrimary(script, hang_up=hang_up, protocol=protocol)
    try:
        yield primary
    finally:
        primary.close()
