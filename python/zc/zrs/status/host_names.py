"""The host names that a status server accepts.

A web site can make its own name resolve to an address in this network, even 127.0.0.1, and then
read what is served there (DNS rebinding). The browser still sends the name of the site as
``Host``. A name must therefore be one of this machine, or be given by an option. Addresses
cannot be rebound and are always accepted.
"""

import ipaddress
import socket
import urllib.parse
from collections.abc import Iterable

LOCAL = "localhost"
ANY = "*"


class HostNames:
    """The accepted names of a server.

    :param own: the host on which the server listens
    :param further: additional names, such as that of a proxy; ``*`` accepts any
    """

    def __init__(self, own: str, further: Iterable[str]) -> None:
        self._any = False
        self._names = frozenset({LOCAL, _canonical(own)})
        self._machine: frozenset[str] | None = None
        self.add(further)

    def add(self, further: Iterable[str]) -> None:
        """Add names; raise `ValueError` for invalid ones."""
        further = list(further)
        names = [name for name in further if name != ANY]
        for name in names:
            if _name_in(name) != _canonical(name):
                raise ValueError(f"{name!r} is not the name of a host")
        self._names |= frozenset(map(_canonical, names))
        self._any = self._any or ANY in further

    def include(self, host: str | None) -> bool:
        """Return whether to answer a request with this ``Host`` header.

        Browsers always send one, so a request without it does not come from a web site.
        """
        if host is None or self._any:
            return True
        name = _name_in(host.strip())
        if name is None:
            return False
        return _is_address(name) or name in self._names or name in self._of_machine()

    def _of_machine(self) -> frozenset[str]:
        if self._machine is None:
            name = socket.gethostname()
            self._machine = frozenset({_canonical(name), _canonical(socket.getfqdn(name))})
        return self._machine


def _canonical(name: str) -> str:
    return name.lower().rstrip(".")


def _name_in(host: str) -> str | None:
    """Return the host of ``HOST[:PORT]``, None for anything else."""
    try:
        parts = urllib.parse.urlsplit(f"//{host}")
        if parts.netloc != host or "@" in host or parts.hostname is None:
            return None
        _ = parts.port  # raises if it is not a number
    except ValueError:
        return None
    return _canonical(parts.hostname)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
