"""Addresses as users write them: ``(host, port)``, or the path of a UNIX socket."""

import ipaddress
from pathlib import Path
from typing import Any, TypeAlias

from zc.zrs.system.quantities import quoted

Address: TypeAlias = tuple[str, int] | str

MAX_PORT = 65535
MAX_PORT_DIGITS = 20


def check_address(addr: Any) -> Address:
    """Return the address; raise `TypeError` or `ValueError` if it is invalid."""
    if isinstance(addr, str):
        if not addr:
            raise ValueError("the path of a UNIX socket is empty")
        return addr
    try:
        host, port = addr
    except (TypeError, ValueError):
        host = port = None
    if not isinstance(host, str) or not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(
            f"an address must be (host, port) or the path of a UNIX socket, not {addr!r}"
        )
    if not 0 <= port <= MAX_PORT:
        raise ValueError(f"port {port} is not between 0 and {MAX_PORT}")
    return host, port


def check_addresses(addrs: Any) -> list[Address]:
    """Return a list of addresses, from one or a list; raise as `check_address` does."""
    if isinstance(addrs, list):
        return [check_address(addr) for addr in addrs]
    return [check_address(addrs)]


def address_to_connect(addr: Address) -> Address:
    """Return the address to connect to: an empty host means this machine."""
    if isinstance(addr, tuple) and not addr[0]:
        return "localhost", addr[1]
    return addr


def parse_address(text: str, *, paths_without_slash: bool = False) -> Address:
    """Parse ``HOST:PORT``, ``PORT``, ``:PORT``, ``[IPV6]:PORT``, or a path with a slash in it.

    With `paths_without_slash` it also accepts the name of a UNIX socket in this directory.
    Raises `ValueError` with a text for the user.
    """
    if "/" in text:
        return text
    try:
        return _parse_host_port(text)
    except ValueError:
        if paths_without_slash and (":" not in text or Path(text).exists()):
            return text
        raise


def _parse_host_port(text: str) -> tuple[str, int]:
    host, port = split_host_port(text)
    if port is None and not text.startswith("["):
        host, port = "", host
    if port is None or not (port.isascii() and port.isdigit()):
        raise ValueError(f"{quoted(text)} is not HOST:PORT, PORT, or a path with a slash in it")
    return host, parse_port(text, port)


def parse_listening_address(text: str) -> tuple[str, int]:
    """Parse ``HOST``, ``HOST:PORT``, ``PORT`` or ``:PORT``; port 0, any free port, is the default.

    An IPv6 address without a port needs no brackets. Raises `ValueError` with a text for the
    user, also for the path of a UNIX socket.
    """
    if "/" in text:
        raise ValueError(f"{quoted(text)} is the path of a UNIX socket")
    if _is_ipv6(text):
        return text, 0
    host, port = split_host_port(text)
    if port is None and host.isascii() and host.isdigit():
        host, port = "", host
    if not (host or port):
        raise ValueError(f"{quoted(text)} is not HOST, HOST:PORT or PORT")
    return host, parse_port(text, port or "0")


def split_host_port(text: str) -> tuple[str, str | None]:
    """Return host and port, None without a port, of ``HOST[:PORT]`` or ``[IPV6][:PORT]``.

    The port is not checked. Raises `ValueError` for an IPv6 address without brackets.
    """
    host, bracket, rest = text.partition("]")
    if bracket and host.startswith("["):
        # A number after the bracket without a colon is not a port.
        port = rest[1:] if rest.startswith(":") else bracket + rest
        return host[1:], port if rest else None
    host, colon, port = text.partition(":")
    if ":" in port:
        raise ValueError(f"{quoted(text)}: write an IPv6 address in brackets, as [::1]:8100")
    return host, port if colon else None


def parse_port(text: str, port: str, least: int = 0) -> int:
    """Return the port of an address; raise `ValueError`, which quotes the address, for others."""
    is_number = port.isascii() and port.isdigit() and len(port) <= MAX_PORT_DIGITS
    if not is_number or not least <= int(port) <= MAX_PORT:
        shown = port if port.isdigit() and len(port) <= MAX_PORT_DIGITS else quoted(port)
        raise ValueError(f"{quoted(text)}: port {shown} is not between {least} and {MAX_PORT}")
    return int(port)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def show_address(addr: Any) -> str:
    """Return the address as `parse_address` reads it."""
    if isinstance(addr, str):
        return addr
    host, port = addr[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
