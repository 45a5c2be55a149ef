"""Addresses as the names of nodes: ``HOST:PORT``."""

MAX_PORT = 65535


def parse_addr(text: str) -> tuple[str, int]:
    """Return the host and port of ``HOST:PORT`` or ``[IPV6]:PORT``, or raise `ValueError`."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    good_port = port.isascii() and port.isdigit() and 0 < int(port) <= MAX_PORT
    if not host or not colon or not good_port or any(c in host for c in "/[] "):
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def format_addr(addr: tuple[str, int] | str) -> str:
    """Return the node name for an address."""
    if isinstance(addr, str):
        return addr
    host, port = addr
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
