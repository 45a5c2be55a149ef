"""Addresses as users write them: ``(host, port)``, or the path of a UNIX socket."""

from typing import Any, TypeAlias

Address: TypeAlias = tuple[str, int] | str

MAX_PORT = 65535


def check_address(addr: Any) -> Address:
    """Return the address; raise `TypeError` or `ValueError` if it is none."""
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
    """Return where to connect: an empty host means this machine."""
    if isinstance(addr, tuple) and not addr[0]:
        return "localhost", addr[1]
    return addr


def parse_address(text: str) -> Address:
    """Parse ``HOST:PORT``, ``PORT``, ``:PORT``, ``[IPV6]:PORT``, or a path with a slash in it.

    Raises `ValueError` with a text for the user.
    """
    if "/" in text:
        return text
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit():
        raise ValueError(f"{text!r} is not HOST:PORT, PORT, or a path with a slash in it")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, as [::1]:8100")
    if int(port) > MAX_PORT:
        raise ValueError(f"{text!r}: port {port} is not between 0 and {MAX_PORT}")
    return host, int(port)


def show_address(addr: Any) -> str:
    """Return the address as `parse_address` reads it."""
    if isinstance(addr, str):
        return addr
    host, port = addr[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
