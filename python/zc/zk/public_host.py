"""The host name to register for a server that listens on all addresses of its machine."""

import ipaddress
import logging
import socket

ANY_HOST = frozenset({"", "0.0.0.0", "::", "[::]"})  # noqa: S104 -- compared, not bound
"""Hosts that mean all addresses of the machine when a server listens on them."""

logger = logging.getLogger(__name__)


def registered_host(host: str) -> str:
    """Return the host to register; if the server listens on all addresses, the machine's name.

    Logs a warning if that is a name that other machines cannot use.
    """
    if host not in ANY_HOST:
        return host
    name = socket.getfqdn()
    if is_loopback(name):
        logger.warning(
            "the name of this machine, %r, is an address of its loopback interface, so"
            " other machines cannot connect to the registered address; set register-as,"
            " or listen at a host name that they can reach",
            name,
        )
    return name


def is_loopback(host: str) -> bool:
    """Return whether a host is, or resolves to, loopback addresses only."""
    if host == "localhost" or host.startswith("localhost."):
        return True
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False  # other machines may be able to resolve the name
    addresses = {str(entry[4][0]).partition("%")[0] for entry in found}
    return bool(addresses) and all(ipaddress.ip_address(a).is_loopback for a in addresses)
