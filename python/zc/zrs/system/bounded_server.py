"""A TCP server with limits on connections: in total, for each host, and in time.

The status server and the monitor server of ``zkrunzeo`` use it.
"""

import contextlib
import errno
import logging
import socket
import socketserver
import sys
import threading
import time
from typing import Any, ClassVar

POLL_SECONDS = 0.2
MAX_CONNECTIONS = 16
"""Maximum number of concurrent connections."""
MAX_PER_HOST = 12
"""Maximum number of these from one host."""
PLACE_SECONDS = 1.0
"""Seconds after which the oldest connection can be closed to make room for a new one."""
CHECK_SECONDS = 1.0

# Errors of accept() while the process or the machine cannot take another connection.
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class BoundedServer(socketserver.TCPServer):
    """Serves each connection in a thread, and closes those that exceed a limit."""

    allow_reuse_address = True
    request_queue_size = 32
    connection_seconds: ClassVar[float]
    """Maximum duration of a connection, in seconds."""
    busy: ClassVar[bytes]
    """The answer to a client that exceeds a limit."""
    logger: ClassVar[logging.Logger]

    def __init__(self, address: Any, handler: Any) -> None:
        # Guards the connections, each with its thread, its host, and its start time.
        self._lock = threading.Lock()
        self._open: dict[socket.socket, tuple[threading.Thread, str, float]] = {}
        self._next_check = 0.0
        super().__init__(address, handler)

    def service_actions(self) -> None:
        """Close the connections that take too long."""
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + CHECK_SECONDS
        self.each_second()
        with self._lock:
            for connection, (_, _, began) in self._open.items():
                if now - began > self.connection_seconds:
                    _shut_down(connection)

    def each_second(self) -> None:
        """Do nothing; subclasses override this. Called about once a second."""

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection; one that cannot be accepted yet stays in the queue."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in _NO_ROOM:
                # The queue stays readable, so without a pause the loop would spin.
                time.sleep(POLL_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread if the limits permit it."""
        host = str(client_address[0])
        with self._lock:
            if self._make_room(host):
                thread = threading.Thread(
                    target=self._serve, args=(request, client_address), daemon=True
                )
                try:
                    thread.start()  # it cannot end before the lock is released
                except RuntimeError:
                    self.logger.warning("no thread for a connection from %s", host)
                else:
                    self._open[request] = thread, host, time.monotonic()
                    return
        request.settimeout(0)
        with contextlib.suppress(OSError):
            request.send(self.busy)
        self.shutdown_request(request)

    def _make_room(self, host: str) -> bool:
        """Return whether a connection may be added; close an old one if necessary."""
        of_host = [key for key, (_, other, _) in self._open.items() if other == host]
        if len(of_host) < MAX_PER_HOST:
            if len(self._open) < MAX_CONNECTIONS:
                return True
            of_host = list(self._open)
        oldest = of_host[0]  # dictionaries keep the order of insertion
        if time.monotonic() - self._open[oldest][2] < PLACE_SECONDS:
            return False
        del self._open[oldest]
        _shut_down(oldest)
        return True

    def _serve(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            self.logger.debug("%s disconnected", client_address)
        except Exception:
            self.logger.exception("cannot answer %s", client_address)
        finally:
            with self._lock:
                self._open.pop(request, None)
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log the error; the base class would print it."""
        self.logger.error("cannot answer %s: %s", client_address, sys.exc_info()[1])

    def close_connections(self) -> None:
        """Close all connections, and wait for their threads."""
        with self._lock:
            connections = dict(self._open)
            for connection in connections:
                _shut_down(connection)
        for thread, _, _ in connections.values():
            thread.join(CHECK_SECONDS)


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
