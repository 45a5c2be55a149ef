"""Running one storage until a signal ends it, for ``zrs primary`` and ``zrs secondary``."""

import contextlib
import errno
import logging
import os
import socket
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zc.lockfile
from ZODB.POSException import StorageError

from zc.zrs.commands.catching_up import showing_catch_up
from zc.zrs.commands.errors import CannotStart
from zc.zrs.commands.notify import notifying
from zc.zrs.commands.output import write_line
from zc.zrs.commands.signals import signals_blocked, wait_for_stop
from zc.zrs.files.commit_sync import DEFAULT_COMMIT_SYNC, CommitSync
from zc.zrs.files.lock_files import real_path
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary
from zc.zrs.status.server import StatusAddressError
from zc.zrs.storages.engine import open_file_storage
from zc.zrs.storages.wrapper import wrap_or_close
from zc.zrs.system.address import Address, show_address
from zc.zrs.system.unix_socket import is_served

ZEO_STORAGE_NAME = "1"

ALL_IPV4 = "0.0.0.0"  # noqa: S104 -- what an address without a host means
ALL_BOTH = "::"


@signals_blocked()
def run_primary(
    path: Path,
    listen: Address,
    *,
    zeo: Address | None = None,
    blob_dir: Path | None = None,
    commit_sync: CommitSync = DEFAULT_COMMIT_SYNC,
    **options: Any,
) -> int:
    """Serve a database to secondaries and, optionally, to ZEO clients.

    SIGTERM, SIGINT and SIGHUP stop the server.
    """
    storage = open_database(path, blob_dir, commit_sync=commit_sync)
    with naming_address(listen, "listen on"):
        primary = wrap_or_close(storage, Primary, listen, **options)
    with contextlib.closing(primary):
        ready = [f"replication on {show_address(primary.address)}", *_status_line(primary)]
        return _run(primary, zeo, ready)


@signals_blocked()
def run_secondary(
    path: Path,
    primary: Address,
    *,
    zeo: Address | None = None,
    blob_dir: Path | None = None,
    commit_sync: CommitSync = DEFAULT_COMMIT_SYNC,
    **options: Any,
) -> int:
    """Replicate from a primary and, optionally, serve ZEO clients.

    SIGTERM, SIGINT and SIGHUP stop the server.
    """
    shared = options.get("blobs") == "none"
    storage = open_database(path, blob_dir, shared_blobs=shared, commit_sync=commit_sync)
    with naming_address(primary, "replicate from"):
        secondary = wrap_or_close(storage, Secondary, primary, **options)
    with contextlib.closing(secondary):
        ready = [f"replicating from {show_address(primary)}", *_status_line(secondary)]
        with showing_catch_up(secondary.status):
            return _run(secondary, zeo, ready)


def _run(storage: Any, zeo: Address | None, ready: list[str]) -> int:
    """Serve the storage to ZEO clients if requested, and wait; return the exit status."""
    with contextlib.ExitStack() as open_things:
        if zeo is not None:
            server = _serve(storage, zeo)
            open_things.callback(_close_server, server)
            ready.append(f"zeo on {show_address(server.acceptor.addr)}")
        for line in ready:
            write_line(line)
        with notifying(storage.status):
            return wait_for_stop()


def _status_line(storage: Primary | Secondary) -> list[str]:
    address = storage.status_address
    return [] if address is None else [f"status on http://{show_address(address)}/"]


def _serve(storage: Any, addr: Address) -> Any:
    """Serve a storage to ZEO clients; return the server."""
    try:
        from ZEO.StorageServer import StorageServer  # noqa: PLC0415 -- an extra
    except ModuleNotFoundError as error:
        raise CannotStart(f"--zeo requires ZEO: pip install 'zrs[zeo]' ({error})") from error
    with naming_address(addr, "serve ZEO on"):
        # asyncio would remove the socket of a server that listens on the path.
        if isinstance(addr, str) and is_served(addr):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), addr)
        try:
            server = StorageServer(_zeo_address(addr), {ZEO_STORAGE_NAME: storage})
        except OSError as error:
            _close_event_loop(error)
            raise
    server.start_thread()
    return server


def _close_event_loop(error: OSError) -> None:
    """Close the event loop that ZEO leaves open if it cannot listen.

    Python could collect the loop after the loop's sockets otherwise, and print a traceback.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        loop = getattr(frame.f_locals.get("self"), "event_loop", None)
        if loop is not None:
            loop.close()


def _zeo_address(addr: Address) -> Address:
    """Return the address for ZEO with the same meaning as for replication.

    For asyncio, no host means all IPv4 and IPv6 addresses, and ``::`` only those of IPv6.
    """
    if isinstance(addr, str):
        return addr
    host, port = addr
    return {"": ALL_IPV4, ALL_BOTH: ""}.get(host, host), port


def _close_server(server: Any) -> None:
    # The server closes its event loop first and its connections afterwards, each of which may
    # log a traceback about the closed loop.
    logging.getLogger("ZEO.asyncio.server").setLevel(logging.CRITICAL)
    server.close()


def open_database(
    path: Path,
    blob_dir: Path | None,
    *,
    shared_blobs: bool = False,
    commit_sync: CommitSync = DEFAULT_COMMIT_SYNC,
) -> Any:
    """Open a FileStorage; raise `CannotStart` if that fails."""
    # ZODB's own message for a missing directory names the lock file in it.
    directory = path.absolute().parent
    if not directory.is_dir():
        raise CannotStart(f"cannot open {path}: directory {directory} does not exist")
    try:
        options: dict[str, Any] = {"commit_sync": commit_sync}
        if blob_dir is not None:
            options["blob_dir"] = str(blob_dir)
        return open_file_storage(str(path), shared_blobs=shared_blobs, **options)
    except zc.lockfile.LockError as error:
        raise CannotStart(f"cannot open {path}: it is locked by another process") from error
    except OSError as error:
        ours = (str(path), real_path(path))
        other = isinstance(error.filename, str) and not error.filename.startswith(ours)
        subject = f"{error.filename}: " if other else ""
        raise CannotStart(f"cannot open {path}: {subject}{error.strerror or error}") from error
    except StorageError as error:
        raise CannotStart(f"cannot open {path}: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def naming_address(addr: Address, purpose: str) -> Iterator[None]:
    """Turn errors of an address or of certificates into `CannotStart`."""
    try:
        yield
    except StatusAddressError as error:
        raise CannotStart(error.with_option("--status")) from error
    except ValueError as error:
        raise CannotStart(f"cannot {purpose} {show_address(addr)}: {error}") from error
    except OSError as error:
        if isinstance(error, socket.gaierror | FileExistsError) or not error.errno:
            reason = error.strerror or str(error)
        else:
            reason = os.strerror(error.errno)
        raise CannotStart(f"cannot {purpose} {show_address(addr)}: {reason}") from error
