"""UNIX sockets in the file system, whose paths may also lead to other files."""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator

_CONNECT_TIMEOUT = 5.0  # seconds

Identity = tuple[int, int]
"""Device and inode number."""


def socket_identity(path: str) -> Identity | None:
    """Return the identity of the socket at a path, None if no socket is there."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISSOCK(found.st_mode) else None


def is_served(path: str) -> bool:
    """Return whether a server accepts connections at the path, or may do so later."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_TIMEOUT)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # its queue is full, or this process may not connect
    return True


def remove_stale(path: str) -> None:
    """Remove the socket at a path if no server answers on it; keep any other file."""
    found = socket_identity(path)
    if found is None or is_served(path) or socket_identity(path) != found:
        return
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108 -- a path as it was given


@contextlib.contextmanager
def keep_other_files(path: str, own: Identity | None) -> Iterator[None]:
    """Keep a file other than our own socket when the block removes the path.

    Libraries that close a listening socket remove the path, even if it leads to another file.
    """
    if not os.path.lexists(path) or (own is not None and socket_identity(path) == own):
        yield
        return
    kept = f"{path}.{os.getpid()}-kept"
    os.link(path, kept, follow_symlinks=False)
    try:
        yield
    finally:
        if os.path.lexists(path):
            os.unlink(kept)  # noqa: PTH108 -- a path as it was given
        else:
            os.rename(kept, path)  # noqa: PTH104 -- likewise
