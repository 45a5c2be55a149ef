"""Connection strings, ``HOST:PORT,HOST:PORT/CHROOT``, and paths, checked before they are used."""

import re

from kazoo.hosts import collect_hosts

MAX_SHOWN = 200
"""Characters of wrong text that an error quotes."""


def check_connection_string(text: str) -> str:
    """Return the text; raise `ValueError`, which quotes it, if it is not a connection string."""
    try:
        _, chroot = collect_hosts(text)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{_shown(text)} is not HOST:PORT,HOST:PORT/PATH: {error}") from None
    # Kazoo takes port 0, and an empty one, for the default.
    servers = text.partition("/")[0].split(",")
    if any(re.search(r":0*$", server) for server in servers):
        raise ValueError(
            f"{_shown(text)} is not HOST:PORT,HOST:PORT/PATH: a port is 0 or empty"
        )
    if chroot and ("//" in chroot or "\0" in chroot):
        raise ValueError(f"{_shown(text)}: {_shown(chroot)} is not a path in ZooKeeper")
    return text


def check_path(text: str) -> str:
    """Return the text; raise `ValueError`, which quotes it, if it is not an absolute path."""
    if not text.startswith("/") or "\0" in text:
        raise ValueError(f"{_shown(text)} is not an absolute path in ZooKeeper")
    return text


def _shown(text: str) -> str:
    shown = repr(text[:MAX_SHOWN])
    return f"{shown}..." if len(text) > MAX_SHOWN else shown
