"""The HTTP server that tells of a storage: one thread of its own, and a few for requests.

It must not cost the storage anything: threads, time and bytes of a request are bounded. In a
forked child it does nothing, and its port is the parent's alone.
"""

import contextlib
import errno
import logging
import os
import socket
import socketserver
import sys
import threading
import time
import weakref
from typing import Any

from zc.zrs.address import Address, check_address, show_address
from zc.zrs.observe.observer import Observer
from zc.zrs.observe.requests import Request

logger = logging.getLogger("zc.zrs.status")

LOOPBACK = "127.0.0.1"
MAX_CONNECTIONS = 16
"""How many requests are answered at once; who comes then is sent away with 503."""
CONNECTION_SECONDS = 20.0
"""How long a connection may take in all, however slowly its client reads and writes."""
POLL_SECONDS = 0.2
SAMPLE_SECONDS = 1.0

# What accept() raises while the process, or the machine, has no room for another connection.
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_BUSY = (
    b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: text/plain\r\n"
    b"Retry-After: 1\r\nConnection: close\r\n\r\ntoo many connections\n"
)


class StatusAddressError(OSError):
    """The address for the status cannot be had; it is the option that is to be changed."""

    def __init__(self, number: int, where: str, reason: str) -> None:
        super().__init__(number, _sentence(where, "status-address", reason))
        self._where = where
        self._reason = reason

    def naming(self, option: str) -> str:
        """Return the sentence with the name that the option has where it was given."""
        return _sentence(self._where, option, self._reason)


class BadStatusAddressError(StatusAddressError, ValueError):
    """What is given as the address for the status is none."""


def _sentence(where: str, option: str, reason: str) -> str:
    return f"cannot serve the status on {where} ({option}): {reason}"


class StatusServer:
    """Serves what is known of a storage.

    The address is taken when this is made, and requests are answered from `start` on.

    :param address: ``(host, port)``, with an empty host for this machine alone and port 0 for
        any free port

    Raises `OSError` if the address cannot be had, `TypeError` or `ValueError` if it is none.
    """

    def __init__(self, address: Address) -> None:
        self._server = _Server(_checked(address))
        self._thread: threading.Thread | None = None
        _inherited.add(self._server)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, with the port that was bound."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def start(self, observer: Observer) -> None:
        """Begin to look at a storage, and to answer."""
        self._server.observer = observer
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": POLL_SECONDS},
            name=f"zrs status {show_address(self.address)}",
            daemon=True,
        )
        self._thread.start()
        logger.info("Status on http://%s/", show_address(self.address))

    def close(self) -> None:
        """Answer no more; returns when the threads have ended."""
        if self._thread is not None and self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._server.hang_up()


class _Server(socketserver.TCPServer):
    allow_reuse_address = True
    request_queue_size = 32
    observer: Observer

    def __init__(self, address: tuple[str, int]) -> None:
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        self.address_family = found[0][0]
        # Requests and the thread that watches over them.
        self._lock = threading.Lock()
        self._open: dict[socket.socket, tuple[threading.Thread, float]] = {}
        self._next_sample = 0.0
        where: Any = found[0][4]
        super().__init__(where, Request)

    def service_actions(self) -> None:
        """Remember a moment each second, and end the connections that take too long."""
        now = time.monotonic()
        if now < self._next_sample:
            return
        self._next_sample = now + SAMPLE_SECONDS
        try:
            self.observer.sample()
        except Exception:  # this thread goes on whatever a storage's status raises
            logger.exception("cannot look at %s", self.observer.name)
        with self._lock:
            late = [
                connection
                for connection, (_, began) in self._open.items()
                if now - began > CONNECTION_SECONDS
            ]
            for connection in late:
                _shut_down(connection)

    def get_request(self) -> tuple[Any, Any]:
        """Take a connection; who cannot be let in yet stays in the queue, and is waited for."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in _NO_ROOM:
                # The queue stays readable: the loop would come back at once, for ever.
                time.sleep(POLL_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, if there are not too many."""
        with self._lock:
            if len(self._open) < MAX_CONNECTIONS:
                thread = threading.Thread(
                    target=self._answer, args=(request, client_address), daemon=True
                )
                thread.start()  # it ends no sooner than the lock is free
                self._open[request] = thread, time.monotonic()
                return
        request.settimeout(0)
        with contextlib.suppress(OSError):
            request.send(_BUSY)
        self.shutdown_request(request)

    def _answer(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            logger.debug("%s went away", client_address)
        except Exception:
            logger.exception("cannot answer %s", client_address)
        finally:
            with self._lock:
                del self._open[request]
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log what could not be answered; the base class prints."""
        logger.error("cannot answer %s: %s", client_address, sys.exc_info()[1])

    def hang_up(self) -> None:
        """End the connections that there are, and wait for their threads."""
        with self._lock:
            connections = dict(self._open)
            for connection in connections:
                _shut_down(connection)
        for thread, _ in connections.values():
            thread.join(SAMPLE_SECONDS)


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _checked(address: Address) -> tuple[str, int]:
    address = check_address(address)
    if isinstance(address, str):
        raise ValueError("it is served on HOST:PORT, not at the path of a UNIX socket")  # noqa: TRY004 -- such addresses are, elsewhere
    host, port = address
    if host == "*":
        # The resolver may make one address of it, if any.
        raise ValueError("for all interfaces, give 0.0.0.0 or [::] as the host")
    return host or LOOPBACK, port


def serve(address: Address | None) -> StatusServer | None:
    """Take the address for a storage's status, None for none.

    Raises `StatusAddressError` if it cannot be had, and `TypeError` for what is no address.
    """
    if address is None:
        return None
    try:
        return StatusServer(address)
    except UnicodeError as error:
        reason = f"{address[0]!r} is no name of a host"
        raise BadStatusAddressError(errno.EINVAL, show_address(address), reason) from error
    except ValueError as error:
        where = show_address(address)
        raise BadStatusAddressError(errno.EINVAL, where, str(error)) from error
    except OSError as error:
        number = error.errno or errno.EINVAL
        if isinstance(error, socket.gaierror):
            number, reason = errno.EADDRNOTAVAIL, str(error.strerror)
        else:
            reason = os.strerror(number)
        where = show_address(_checked(address))
        raise StatusAddressError(number, where, reason) from error


_inherited: "weakref.WeakSet[_Server]" = weakref.WeakSet()


def _after_fork() -> None:
    for server in list(_inherited):
        # The child has a copy of the socket, which would keep the port.
        with contextlib.suppress(OSError):
            server.socket.close()


os.register_at_fork(after_in_child=_after_fork)
