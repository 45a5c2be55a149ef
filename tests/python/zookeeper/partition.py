"""A network between clients and a ZooKeeper server, which can be cut."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL = 0.05


class Network:
    """Forwards connections to a port of this machine; when cut, it drops data silently.

    As with a pulled cable, neither end notices: data of clients are lost, new connections are
    accepted but not answered, and neither data from the server nor its closing arrive. When the
    network is restored, earlier connections are dead.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._is_cut = threading.Event()
        self._closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(POLL)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def address(self) -> str:
        """The address for clients."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        """Drop all data from now on."""
        self._is_cut.set()

    def mend(self) -> None:
        """Let new connections through."""
        self._is_cut.clear()

    def close(self) -> None:
        """End all connections."""
        self._closed.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if self._is_cut.is_set():
                self._swallow(client)
                return
            with socket.create_connection(self._target) as server:
                if self._forward(client, server):
                    return
                # The server does not notice it either.
                self._swallow(client)

    def _forward(self, client: socket.socket, server: socket.socket) -> bool:
        """Forward until an end closes or the network is cut; return whether an end closed."""
        other = {client: server, server: client}
        while not self._closed.is_set():
            ready, _, _ = select.select(list(other), [], [], POLL)
            if self._is_cut.is_set():
                return False
            for source in ready:
                data = source.recv(65536)
                if not data:
                    return True
                other[source].sendall(data)
        return True

    def _swallow(self, client: socket.socket) -> None:
        """Read what a client sends, and answer nothing."""
        client.settimeout(POLL)
        while not self._closed.is_set():
            with contextlib.suppress(TimeoutError):
                if not client.recv(65536):
                    return


@contextlib.contextmanager
def network(port: int) -> Iterator[Network]:
    """Run a network in between during the block."""
    between = Network(port)
    try:
        yield between
    finally:
        between.close()
