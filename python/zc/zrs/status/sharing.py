"""The status servers of this process: storages with the same status address share one.

The first storage opens the server, the last one closes it.
"""

import errno
import os
import socket
import threading
from collections.abc import Iterable

from zc.zrs.status.observer import Observer
from zc.zrs.status.server import (
    BadStatusAddressError,
    StatusAddressError,
    StatusServer,
    checked,
)
from zc.zrs.system.address import Address, show_address


class ServedStatus:
    """The share of one storage in a status server."""

    def __init__(self, server: StatusServer) -> None:
        self._server = server
        self._observer: Observer | None = None
        server.storages.expect()

    @property
    def address(self) -> tuple[str, int]:
        """The address on which the server listens, with the port that was bound."""
        return self._server.address

    def start(self, observer: Observer) -> None:
        """Start observing the storage, and answering for it."""
        with _lock:
            self._observer = observer
            self._server.start(observer)
            self._server.storages.expect_no_more()

    def close(self) -> None:
        """Stop answering for the storage; the last storage of a server closes it."""
        with _lock:
            if self._observer is None:
                self._server.storages.expect_no_more()
            else:
                self._server.storages.remove(self._observer)
            users = _servers[self._server]
            users.discard(self)
            if not users:
                del _servers[self._server]
                self._server.close()


def serve(address: Address | None, names: Iterable[str] = ()) -> ServedStatus | None:
    """Bind the status address of a storage; return None without an address.

    If a server of this process has the address, it is shared, unless the port is 0. Clients may
    use `names` in addition to the names of this machine.

    Raises `StatusAddressError` if it cannot be bound, and `TypeError` if it is not an address.
    """
    if address is None:
        return None
    names = list(names)
    try:
        with _lock:
            where = checked(address)
            server = _present(where)
            if server is None:
                server = StatusServer(address, names)
                _servers[server] = set()
            else:
                server.allow(names)
            served = ServedStatus(server)
            _servers[server].add(served)
            return served
    except UnicodeError as error:
        reason = f"{address[0]!r} is not a host name"
        raise BadStatusAddressError(errno.EINVAL, show_address(address), reason) from error
    except ValueError as error:
        shown = show_address(address)
        raise BadStatusAddressError(errno.EINVAL, shown, str(error)) from error
    except OSError as error:
        number = error.errno or errno.EINVAL
        if isinstance(error, socket.gaierror):
            number, reason = errno.EADDRNOTAVAIL, str(error.strerror)
        else:
            reason = os.strerror(number)
        raise StatusAddressError(number, show_address(checked(address)), reason) from error


def _present(where: tuple[str, int]) -> StatusServer | None:
    """Return the server of this process on this address, or None."""
    if not where[1]:
        return None
    found = socket.getaddrinfo(*where, type=socket.SOCK_STREAM)[0][4][:2]
    for server in _servers:
        if server.address == found:
            return server
    return None


_lock = threading.Lock()
_servers: dict[StatusServer, set[ServedStatus]] = {}


def _after_fork() -> None:
    # The servers belong to the parent, and one of its threads may have held the lock.
    global _lock  # noqa: PLW0603 -- as after any fork
    _lock = threading.Lock()
    _servers.clear()


os.register_at_fork(after_in_child=_after_fork)
