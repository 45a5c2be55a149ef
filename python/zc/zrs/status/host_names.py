"""Which names a status server answers to.

A page of any web site can have its own name resolve to an address of this network, 127.0.0.1
included, and then read what is served there (DNS rebinding). The browser still sends the name
of the site as ``Host``. So a name has to be one of this machine's, or given by an option; an
address cannot be rebound, and is always answered.
"""

import ipaddress
import socket
import urllib.parse
from collections.abc import Iterable

LOCAL = "localhost"
ANY = "*"


class HostNames:
    """The names of a server.

    :param own: the host that it was told to listen on
    :param further: names that clients use besides, such as that of a proxy; ``*`` for any
    """

    def __init__(self, own: str, further: Iterable[str]) -> None:
        self._any = False
        self._names = frozenset({LOCAL, _canonical(own)})
        self._machine: frozenset[str] | None = None
        self.add(further)

    def add(self, further: Iterable[str]) -> None:
        """Add names that clients use; raise `ValueError` for what cannot be one."""
        further = list(further)
        names = [name for name in further if name != ANY]
        for name in names:
            if _name_in(name) != _canonical(name):
                raise ValueError(f"{name!r} is not the name of a host")
        self._names |= frozenset(map(_canonical, names))
        self._any = self._any or ANY in further

    def include(self, host: str | None) -> bool:
        """Tell whether a request with this ``Host`` header is to be answered.

        Browsers always send one; a client without it is not led astray by a web site.
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
        _ = parts.port  # raises for one that is not a number
    except ValueError:
        return None
    return _canonical(parts.hostname)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
