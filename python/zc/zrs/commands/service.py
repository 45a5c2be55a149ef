"""Running one storage until a signal ends it: what ``zrs primary`` and ``zrs secondary`` do."""

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zc.lockfile
from ZODB.POSException import StorageError

from zc.zrs.commands.catching_up import showing_catch_up
from zc.zrs.commands.notify import notifying
from zc.zrs.commands.signals import signals_blocked, wait_for_stop
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary
from zc.zrs.sections.filestorage import DEFAULT_COMMIT_SYNC, CommitSync
from zc.zrs.status.server import StatusAddressError
from zc.zrs.storages.engine import open_file_storage
from zc.zrs.storages.lock_files import real_path
from zc.zrs.storages.wrapper import wrap_or_close
from zc.zrs.system.address import Address, show_address
from zc.zrs.system.unix_socket import is_served

ZEO_STORAGE_NAME = "1"

ALL_IPV4 = "0.0.0.0"  # noqa: S104 -- what an address without a host means
ALL_BOTH = "::"


class CannotStart(Exception):  # noqa: N818 -- it reads as what it says
    """Something is wrong that the user can mend; the argument is a sentence."""

    status = 1
    """The command's exit status."""


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
    """Serve a database to secondaries, and to ZEO clients if wanted, until SIGTERM, SIGINT or SIGHUP."""
    storage = open_database(path, blob_dir, commit_sync=commit_sync)
    with naming(listen, "listen on"):
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
    """Follow a primary, and serve ZEO clients if wanted, until SIGTERM, SIGINT or SIGHUP."""
    shared = options.get("blobs") == "none"
    storage = open_database(path, blob_dir, shared_blobs=shared, commit_sync=commit_sync)
    with naming(primary, "replicate from"):
        secondary = wrap_or_close(storage, Secondary, primary, **options)
    with contextlib.closing(secondary):
        ready = [f"replicating from {show_address(primary)}", *_status_line(secondary)]
        with showing_catch_up(secondary.status):
            return _run(secondary, zeo, ready)


def say(line: str) -> None:
    """Print a line that another program may be waiting for."""
    print(line, flush=True)  # noqa: T201 -- this is the command's output


def _run(storage: Any, zeo: Address | None, ready: list[str]) -> int:
    """Serve the storage to ZEO clients if wanted, and wait; return the exit status."""
    with contextlib.ExitStack() as open_things:
        if zeo is not None:
            server = _serve(storage, zeo)
            open_things.callback(_close_server, server)
            ready.append(f"zeo on {show_address(server.acceptor.addr)}")
        for line in ready:
            say(line)
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
        raise CannotStart(f"--zeo needs ZEO: pip install 'zrs[zeo]' ({error})") from error
    with naming(addr, "serve ZEO on"):
        # asyncio would take the path away from a server that listens there.
        if isinstance(addr, str) and is_served(addr):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), addr)
        server = StorageServer(_zeo_address(addr), {ZEO_STORAGE_NAME: storage})
    server.start_thread()
    return server


def _zeo_address(addr: Address) -> Address:
    """Return the address for ZEO that means what the address of replication does.

    To asyncio no host means the addresses of both kinds, and ``::`` those of IPv6 only.
    """
    if isinstance(addr, str):
        return addr
    host, port = addr
    return {"": ALL_IPV4, ALL_BOTH: ""}.get(host, host), port


def _close_server(server: Any) -> None:
    # It ends its event loop and only then tells connections to close, each of which
    # may log a traceback about the loop that has gone.
    logging.getLogger("ZEO.asyncio.server").setLevel(logging.CRITICAL)
    server.close()


def open_database(
    path: Path,
    blob_dir: Path | None,
    *,
    shared_blobs: bool = False,
    commit_sync: CommitSync = DEFAULT_COMMIT_SYNC,
) -> Any:
    """Open a FileStorage; raise `CannotStart` for one that cannot be opened."""
    # ZODB's own message for a missing directory names the lock file in it.
    directory = path.absolute().parent
    if not directory.is_dir():
        raise CannotStart(f"cannot open {path}: there is no directory {directory}")
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
def naming(addr: Address, purpose: str) -> Iterator[None]:
    """Turn what the system says of an address, or of certificates, into a sentence."""
    try:
        yield
    except StatusAddressError as error:
        raise CannotStart(error.naming("--status")) from error
    except ValueError as error:
        raise CannotStart(f"cannot {purpose} {show_address(addr)}: {error}") from error
    except OSError as error:
        if isinstance(error, socket.gaierror | FileExistsError) or not error.errno:
            reason = error.strerror or str(error)
        else:
            reason = os.strerror(error.errno)
        raise CannotStart(f"cannot {purpose} {show_address(addr)}: {reason}") from error
