"""A bad network: a proxy that ends connections after given numbers of bytes."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zc.zrs.system.address import Address

RESET = struct.pack("ii", 1, 0)  # linger for no time: what is under way is lost


class Proxy:
    """Forwards connections to a primary, and ends them, one after the other.

    Of the n-th connection, `limits[n]` bytes of what the primary sends are forwarded; then
    `at_limit` is called with n, and the connection is reset. Later connections go on for
    as long as both ends do. To be closed.
    """

    def __init__(
        self,
        target: Address,
        limits: Iterable[int],
        at_limit: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.connections = 0
        assert not isinstance(target, str), "a UNIX socket"
        self._target = target
        self._limits = list(limits)
        self._at_limit = at_limit
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> tuple[str, int]:
        """Where to connect instead of to the primary."""
        address: tuple[str, int] = self._server.getsockname()
        return address

    def close(self) -> None:
        """End everything."""
        with self._lock:
            self._closed = True
            connections = list(self._open)
        # Closing would not wake the thread that accepts.
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            number, self.connections = self.connections, self.connections + 1
            threading.Thread(target=self._serve, args=(client, number), daemon=True).start()

    def _serve(self, client: socket.socket, number: int) -> None:
        limit = self._limits[number] if number < len(self._limits) else None
        with client:
            try:
                server = socket.create_connection(self._target)
            except OSError:
                return
            with server:
                with self._lock:
                    if self._closed:
                        return
                    self._open |= {client, server}
                upwards = threading.Thread(
                    target=self._forward, args=(client, server), daemon=True
                )
                upwards.start()
                if self._forward(server, client, limit):
                    self._at_limit(number)
                    for end in client, server:
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                for end in client, server:
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
                upwards.join()
                with self._lock:
                    self._open -= {client, server}

    @staticmethod
    def _forward(
        source: socket.socket, target: socket.socket, limit: int | None = None
    ) -> bool:
        """Forward until an end closes, or there were `limit` bytes; tell whether it was that."""
        try:
            while limit is None or limit > 0:
                data = source.recv(65536 if limit is None else min(limit, 65536))
                if not data:
                    break
                target.sendall(data)
                limit = None if limit is None else limit - len(data)
        except OSError:
            pass
        else:
            if limit == 0:
                return True
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
        return False
