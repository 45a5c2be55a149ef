"""The connections of kazoo clients, encrypted on request.

Kazoo's own TLS connections trust the system's authorities in addition to the given one, leak
sockets, and are retried forever if a file does not exist.
"""

import contextlib
import importlib.util
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import Any

from kazoo.handlers.threading import SequentialThreadingHandler

TLS_OPTIONS = (
    "ca",
    "certfile",
    "check_hostname",
    "keyfile",
    "keyfile_password",
    "use_ssl",
    "verify_certs",
)
"""The arguments of `kazoo.client.KazooClient` that are about TLS."""


class Handler(SequentialThreadingHandler):  # type: ignore[misc]
    """Makes the connections and the threads of one kazoo client.

    :param context: for TLS; None for unencrypted connections
    :param on_end: called when the client stops connecting, whether it was closed or not
    """

    def __init__(self, context: ssl.SSLContext | None, on_end: Callable[[], object]) -> None:
        super().__init__()
        self._context = context
        self._on_end = on_end
        self.failure: OSError | None = None
        """The error of the last attempt to connect, None if it succeeded."""
        self._connection: Any = None

    def create_connection(
        self,
        address: tuple[str, int],
        hostname: str | None = None,
        timeout: float | None = None,
        **_tls_options: Any,
    ) -> Any:
        """Return a connected socket; raise `OSError`, for example `ssl.SSLError`."""
        try:
            connection = super().create_connection(address, timeout=timeout)
            if self._context is not None:
                connection = self._encrypted(connection, hostname or address[0])
        except OSError as error:
            self.failure = error
            raise
        self.failure = None
        self._connection = connection
        return connection

    def abort(self) -> None:
        """Close the current connection, so that nothing waits for an answer on it."""
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def _encrypted(self, connection: Any, hostname: str) -> ssl.SSLSocket:
        assert self._context is not None  # noqa: S101 -- for the type checker
        try:
            return self._context.wrap_socket(connection, server_hostname=hostname)
        except BaseException:
            connection.close()
            raise

    def spawn(self, func: Callable[..., object], *args: Any, **kwargs: Any) -> threading.Thread:
        """Run a function in a thread; report the end of the thread that connects."""
        if getattr(func, "__name__", "") != "zk_loop":
            thread: threading.Thread = super().spawn(func, *args, **kwargs)
            return thread

        def connect() -> None:
            try:
                func(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 -- kazoo has logged it
                if self.failure is None:
                    self.failure = OSError(f"{type(error).__name__}: {error}")
            finally:
                self._on_end()

        return self.spawn(connect)


def tls_context(options: Mapping[str, Any]) -> ssl.SSLContext | None:
    """Return the context for the `TLS_OPTIONS` in a client's arguments, None without TLS.

    With ``ca``, only that authority is trusted. Unless ``check_hostname`` is false, servers'
    certificates must match their host names. ``certfile`` can contain the key.

    Raises `ValueError` for contradictory options and for files with invalid contents, and
    `OSError`, with the path, for files that cannot be read.
    """
    if not options.get("use_ssl"):
        for name in TLS_OPTIONS:
            if options.get(name):
                raise ValueError(f"{name} requires use_ssl")
        return None
    verify = options.get("verify_certs", True)
    check_hostname = options.get("check_hostname", verify)
    if check_hostname and not verify:
        raise ValueError("check_hostname requires verify_certs")
    if options.get("keyfile") and not options.get("certfile"):
        raise ValueError("keyfile requires certfile")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = check_hostname
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if ca := options.get("ca"):
        _load(ca, lambda: context.load_verify_locations(ca))
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if certfile := options.get("certfile"):
        # An empty password fails; without one OpenSSL would ask the terminal for it.
        password = options.get("keyfile_password") or ""
        keyfile = options.get("keyfile")
        _load(keyfile or certfile, lambda: context.load_cert_chain(certfile, keyfile, password))
    return context


def _load(path: str, load: Callable[[], object]) -> None:
    """Load a file with a function of OpenSSL, whose exceptions do not name the file."""
    try:
        load()
    except ssl.SSLError as error:
        raise ValueError(f"{path}: {error}") from error
    except OSError as error:
        raise type(error)(error.errno, error.strerror, path) from error


def check_sasl(options: Mapping[str, Any] | None) -> None:
    """Raise `ValueError` or `ImportError` for errors that kazoo detects only in its thread."""
    if options is None:
        return
    if "mechanism" not in options:
        raise ValueError("sasl_options requires a mechanism, for example DIGEST-MD5")
    if importlib.util.find_spec("puresasl") is None:
        raise ImportError("SASL requires the distribution pure-sasl: install kazoo[sasl]")
