"""The option ``register-as``: under which address a server is registered in ZooKeeper."""

import ipaddress

from zc.zrs.system.address import MAX_PORT


def parse_register_as(text: str) -> tuple[str, int | None]:
    """Return host and port, None without a port, of ``HOST[:PORT]`` or ``[IPV6][:PORT]``.

    Raises `ValueError` for an empty host, one that stands for all addresses, and port 0:
    nobody can connect to these.
    """
    host, bracket, rest = text.partition("]")
    if host.startswith("[") and bracket:
        host = host[1:]
        _check_ipv6(text, host)
    else:
        host, colon, port_text = text.partition(":")
        rest = colon + port_text
        if ":" in port_text:
            raise ValueError(
                f"{text!r}: write an IPv6 address in brackets, as [2001:db8::1]:8100"
            )
    if not host:
        raise ValueError(f"{text!r} has no host: register-as is HOST or HOST:PORT")
    if any(character in "/[]" or character.isspace() for character in host):
        raise ValueError(f"{text!r} is not HOST or HOST:PORT")
    if _is_wildcard(host):
        raise ValueError(
            f"{text!r} stands for all addresses: no other machine can connect to it"
        )
    return host, _port(text, rest) if rest else None


def _check_ipv6(text: str, host: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise ValueError(f"{text!r}: there is no IPv6 address in the brackets") from None


def _is_wildcard(host: str) -> bool:
    try:
        return host == "*" or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _port(text: str, rest: str) -> int:
    digits = rest[1:]
    is_number = rest[0] == ":" and digits.isascii() and digits.isdigit()
    if not is_number or len(digits) > len(str(MAX_PORT)) or not 0 < int(digits) <= MAX_PORT:
        raise ValueError(f"{text!r}: the port is not between 1 and {MAX_PORT}")
    return int(digits)


def address_to_register(
    register_as: tuple[str, int | None] | None, host: str, port: int
) -> tuple[str, int]:
    """Return the address to register for a server that listens at this host and port."""
    if register_as is None:
        return host, port
    return register_as[0], register_as[1] or port
