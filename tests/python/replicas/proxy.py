"""A bad network: a proxy that cuts connections after given numbers of bytes."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zc.zrs.system.address import Address

RESET = struct.pack("ii", 1, 0)  # with a linger time of 0, data in transit are lost


class Proxy:
    """Forwards connections to a primary, and cuts them, one after the other.

    For the n-th connection, it forwards `limits[n]` bytes from the primary, then calls
    `at_limit` with n and resets the connection. Later connections last until an end closes
    them. The caller closes the proxy.
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
        """The address to connect to instead of the primary's."""
        address: tuple[str, int] = self._server.getsockname()
        return address

    def close(self) -> None:
        """End everything."""
        with self._lock:
            self._closed = True
            connections = list(self._open)
        # Only closing the socket would not wake the accepting thread.
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
        """Forward until an end closes, or `limit` bytes; return whether it was the limit."""
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
