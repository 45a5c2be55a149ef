"""The status server: an HTTP server with one thread, and a few for requests.

It must not slow down the storages: threads, time and bytes of a request are bounded. In a
forked child it does nothing, and its port belongs only to the parent.
"""

import contextlib
import errno
import logging
import os
import socket
import threading
import weakref
from collections.abc import Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from zc.zrs.status import page
from zc.zrs.status.describing import VERSION
from zc.zrs.status.host_names import HostNames
from zc.zrs.status.observer import Observer
from zc.zrs.status.requests import MAX_QUOTED, Answer, Request, answer, text_answer
from zc.zrs.status.storages import Storages
from zc.zrs.system.address import Address, check_address, show_address
from zc.zrs.system.bounded_server import POLL_SECONDS, BoundedServer

logger = logging.getLogger("zc.zrs.status")

LOOPBACK = "127.0.0.1"
CONNECTION_SECONDS = 20.0
"""Maximum duration of a connection in seconds, even if its client reads and writes slowly."""
_BUSY = (
    b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: text/plain\r\n"
    b"Retry-After: 1\r\nConnection: close\r\n\r\ntoo many connections\n"
)


class StatusAddressError(OSError):
    """The status address cannot be bound; the text names the option to change."""

    def __init__(self, number: int, where: str, reason: str, section: str = "") -> None:
        super().__init__(number, section + _sentence(where, "status-address", reason))
        self._where = where
        self._reason = reason

    def with_option(self, option: str) -> str:
        """Return the message with the name of the option as the user knows it."""
        return _sentence(self._where, option, self._reason)

    def in_section(self, section: str) -> "StatusAddressError":
        """Return the error with the name of the section that has the option."""
        number = self.errno or errno.EINVAL
        return type(self)(number, self._where, self._reason, f"{section}: ")


class BadStatusAddressError(StatusAddressError, ValueError):
    """The value given as the status address is not an address."""


def _sentence(where: str, option: str, reason: str) -> str:
    return f"cannot serve the status on {where} ({option}): {reason}"


class StatusServer:
    """Serves the status of storages.

    The constructor binds the address; requests are answered from `start` on.

    :param address: ``(host, port)``, with port 0 for any free port; with an empty host, only
        this machine can connect, and a warning is logged
    :param names: additional host names that clients may use, ``*`` for any

    Raises `OSError` if the address cannot be bound, `TypeError` or `ValueError` if it is invalid.
    """

    def __init__(self, address: Address, names: Iterable[str] = ()) -> None:
        self._server = _Server(checked(address), names)
        self._thread: threading.Thread | None = None
        _inherited.add(self._server)
        if not address[0]:
            # It has no password, so other machines can connect only if a host is given.
            logger.warning(
                "the status address has no host, so only this machine can connect to"
                " %s; write %s:%s to keep this, or 0.0.0.0:%s for all IPv4 addresses of"
                " the machine",
                LOOPBACK,
                LOOPBACK,
                address[1],
                address[1],
            )

    @property
    def address(self) -> tuple[str, int]:
        """The address on which the server listens, with the port that was bound."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    @property
    def storages(self) -> Storages:
        """The storages of the server."""
        return self._server.storages

    def allow(self, names: Iterable[str]) -> None:
        """Accept these host names too; raise `ValueError` for invalid ones."""
        self._server.names.add(names)

    def start(self, observer: Observer) -> None:
        """Start observing a storage, and answering requests if this is the first one."""
        self.storages.add(observer)
        if self._thread is not None:
            return
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": POLL_SECONDS},
            name=f"zrs status {show_address(self.address)}",
            daemon=True,
        )
        self._thread.start()
        logger.info("Status on http://%s/", show_address(self.address))

    def close(self) -> None:
        """Stop answering; returns when the threads have ended."""
        if self._thread is not None and self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._server.close_connections()


class _Handler(BaseHTTPRequestHandler):
    """Answers one request, and closes the connection."""

    server: "_Server"
    timeout = 10  # seconds for each read and write
    server_version = f"zrs/{VERSION}"

    def version_string(self) -> str:
        """Return the value of the ``Server`` header."""
        return self.server_version

    def do_GET(self) -> None:
        """Answer a request; log errors that the client has not caused."""
        request = Request(
            self.path, self.headers.get_all("Host", []), self.headers.get("Accept", "")
        )
        try:
            found = answer(request, self.server.storages, self.server.names)
        except Exception:
            logger.exception("cannot answer %s", self.path[:MAX_QUOTED])
            found = text_answer(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; see the log")
        self._send(found)

    def do_HEAD(self) -> None:
        """Answer like GET, without the body."""
        self.do_GET()

    def do_POST(self) -> None:
        """Refuse the request: the server is read-only."""
        self._send(text_answer(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are allowed"))

    do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = do_POST

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Content-Security-Policy", page.CONTENT_SECURITY_POLICY)
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's
        """Log requests at the debug level."""
        logger.debug(format, *args)


class _Server(BoundedServer):
    connection_seconds = CONNECTION_SECONDS
    busy = _BUSY
    logger = logger

    def __init__(self, address: tuple[str, int], names: Iterable[str]) -> None:
        self.names = HostNames(address[0], names)
        self.storages = Storages()
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        self.address_family = found[0][0]
        where: Any = found[0][4]
        super().__init__(where, _Handler)

    def each_second(self) -> None:
        """Record a sample of each storage."""
        for observer in self.storages.all():
            _sample(observer)


def _sample(observer: Observer) -> None:
    try:
        observer.sample()
    except Exception:  # an error of one storage must not stop the server
        logger.exception("cannot read the status of %s", observer.name)


def checked(address: Address) -> tuple[str, int]:
    """Return the address to listen on; raise `TypeError` or `ValueError` if it is invalid."""
    address = check_address(address)
    if isinstance(address, str):
        raise ValueError("the status requires HOST:PORT, not the path of a UNIX socket")  # noqa: TRY004 -- such addresses are, elsewhere
    host, port = address
    if host == "*":
        # The resolver would turn this into one address, if any.
        raise ValueError("for all interfaces, give 0.0.0.0 or [::] as the host")
    return host or LOOPBACK, port


_inherited: "weakref.WeakSet[_Server]" = weakref.WeakSet()


def _after_fork() -> None:
    for server in list(_inherited):
        # The child has a copy of the socket, which would keep the port in use.
        with contextlib.suppress(OSError):
            server.socket.close()


os.register_at_fork(after_in_child=_after_fork)
