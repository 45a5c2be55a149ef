"""The option ``register-as``: the address under which a server is registered in ZooKeeper."""

import ipaddress

from zc.zrs.system.address import parse_port, split_host_port
from zc.zrs.system.quantities import quoted


def parse_register_as(text: str) -> tuple[str, int | None]:
    """Return host and port, None without a port, of ``HOST[:PORT]`` or ``[IPV6][:PORT]``.

    Raises `ValueError` for an empty host, a host that means all addresses, and port 0, because
    clients cannot connect to these.
    """
    host, port = split_host_port(text)
    if text.startswith("["):
        _check_ipv6(text, host)
    if not host:
        raise ValueError(f"{quoted(text)} has no host: register-as must be HOST or HOST:PORT")
    if any(character in "/[]" or character.isspace() for character in host):
        raise ValueError(f"{quoted(text)} is not HOST or HOST:PORT")
    if _is_wildcard(host):
        raise ValueError(
            f"{quoted(text)} stands for all addresses: no other machine can connect to it"
        )
    return host, None if port is None else parse_port(text, port, least=1)


def _check_ipv6(text: str, host: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise ValueError(
            f"{quoted(text)}: the text in brackets is not an IPv6 address"
        ) from None


def _is_wildcard(host: str) -> bool:
    try:
        return host == "*" or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def address_to_register(
    register_as: tuple[str, int | None] | None, host: str, port: int
) -> tuple[str, int]:
    """Return the address to register for a server that listens on this host and port."""
    if register_as is None:
        return host, port
    return register_as[0], register_as[1] or port
