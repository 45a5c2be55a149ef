"""``zrs bootstrap``: fetch a whole database from a primary, check it, and exit."""

import argparse
import contextlib
import sys
import time
from pathlib import Path
from typing import Any

from zc.zrs.commands.arguments import Commands, add_log_level, duration
from zc.zrs.commands.check import run_check
from zc.zrs.commands.errors import CannotStart
from zc.zrs.commands.output import write_line
from zc.zrs.commands.progress import Show, progress
from zc.zrs.commands.service import naming_address, open_database
from zc.zrs.commands.service_arguments import (
    add_blobs,
    add_commit_sync,
    add_primary,
    add_tls,
    add_tls_host,
    tls_files,
)
from zc.zrs.files.commit_sync import DEFAULT_COMMIT_SYNC, CommitSync
from zc.zrs.secondary import Secondary
from zc.zrs.status.lag_record import QUIET_BEFORE_READY, quiet_means_caught_up
from zc.zrs.status.schema import SecondaryStatus
from zc.zrs.storages.wrapper import wrap_or_close
from zc.zrs.system.address import Address, show_address
from zc.zrs.system.quantities import format_count

DESCRIPTION = """
Copy a whole database from a primary, with its blobs if --blob-dir is given, and check it: the
first step of setting up a secondary. Data already fetched is kept, so an interrupted run
resumes where it stopped. Exit status: 0 if the database was fetched and passed the check, 1 if
it could not be opened or fetched or the check found problems, 2 for wrong usage.
"""

DEFAULT_TIMEOUT = 60.0
"""Seconds without progress after which the command fails."""

_RECONNECT_DELAY = 1.0
_POLL_INTERVAL = 0.05
"""Seconds between two checks of the progress."""
_QUIET = 5.0
"""zc.zrs does not announce its position; this many seconds without data count as caught up."""
_SECONDS_BETWEEN_LINES = 5.0
_LASTING = ("storage", "tls", "fork")
"""The kinds of errors after which another attempt is pointless."""


class CannotFetch(CannotStart):
    """The database cannot be fetched from the primary; the argument is a sentence."""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "bootstrap",
        help="copy a whole database from a primary, then exit",
        description=DESCRIPTION,
    )
    parser.set_defaults(run=_run)
    parser.add_argument(
        "path", type=Path, help="Data.fs of the copy; created if it does not exist"
    )
    add_primary(parser)
    parser.add_argument(
        "--timeout",
        type=duration,
        default=DEFAULT_TIMEOUT,
        metavar="DURATION",
        help="give up after this long without a connection or new data (default:"
        f" {DEFAULT_TIMEOUT:g})",
    )
    parser.add_argument(
        "--no-check",
        dest="check",
        action="store_false",
        help="do not check the database afterwards",
    )
    add_tls(parser, "primaries")
    add_tls_host(parser)
    add_blobs(parser)
    add_commit_sync(parser)
    add_log_level(parser)


def _run(given: argparse.Namespace) -> int:
    return run_bootstrap(
        given.path,
        given.primary,
        timeout=given.timeout,
        check=given.check,
        blob_dir=given.blob_dir,
        commit_sync=given.commit_sync,
        blobs=given.blobs,
        ssl=tls_files(given),
    )


def run_bootstrap(  # noqa: PLR0913 -- the command's options
    path: Path,
    primary: Address,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    check: bool = True,
    blob_dir: Path | None = None,
    commit_sync: CommitSync = DEFAULT_COMMIT_SYNC,
    blobs: str = "all",
    **options: Any,
) -> int:
    """Fetch everything that the primary has when connected; return the exit status."""
    shared = blobs == "none"
    storage = open_database(path, blob_dir, shared_blobs=shared, commit_sync=commit_sync)
    options.update(reconnect_delay=_RECONNECT_DELAY, blobs=blobs)
    with naming_address(primary, "replicate from"):
        secondary = wrap_or_close(storage, Secondary, primary, **options)
    with contextlib.closing(secondary), progress() as show:
        status = _Fetching(path, primary, secondary, show).until_done(timeout)
    if status["state"] == "quiet":
        sys.stderr.write(
            f"the primary has sent nothing for {QUIET_BEFORE_READY:g} seconds; assuming"
            " that it is a zc.zrs without further transactions. Compare its last"
            " transaction\n"
        )
    write_line(
        f"fetched {format_count(status['transactions'], 'transaction')}, up to {status['tid']}"
    )
    if not check:
        return 0
    return run_check(path, blob_dir=None if blobs == "none" else blob_dir)


class _Fetching:
    """Polls a secondary until it has caught up."""

    def __init__(self, path: Path, primary: Address, secondary: Secondary, show: Show) -> None:
        self._path = path
        self._primary = show_address(primary)
        self._secondary = secondary
        self._show = show
        self._size = self._size_before = path.stat().st_size
        self._connection: object = None
        self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES

    def until_done(self, timeout: float) -> SecondaryStatus:
        """Wait until everything is fetched; return the last status, or raise `CannotFetch`."""
        seen: object = None
        changed = time.monotonic()
        while True:
            status = self._secondary.status()
            if _has_all(status):
                return status
            self._fail_for_good(status)
            self._size = self._path.stat().st_size
            self._report(status)
            # A position of the primary counts as progress, attempts to connect do not.
            new = (status["bytes"], status["transactions"], self._size, status["primary_tid"])
            if new != seen:
                seen, changed = new, time.monotonic()
            elif time.monotonic() - changed > timeout:
                raise CannotFetch(
                    self._sentence(f"received nothing for {timeout:g} seconds", status)
                )
            time.sleep(_POLL_INTERVAL)

    def _fail_for_good(self, status: SecondaryStatus) -> None:
        for kind in _LASTING:
            if status["errors_by_kind"].get(kind):
                raise CannotFetch(self._sentence("", status))

    def _sentence(self, reason: str, status: SecondaryStatus) -> str:
        error = status["last_error"]
        parts = [reason, "" if error is None else error["message"]]
        return f"cannot fetch from {self._primary}: {': '.join(filter(None, parts))}"

    def _report(self, status: SecondaryStatus) -> None:
        if status["primary_bytes"] is not None:
            if self._connection != status["since"]:
                self._connection, self._size_before = status["since"], self._size
            done = min(self._size - self._size_before, status["primary_bytes"])
            self._show("fetching", done, status["primary_bytes"], "bytes")
        elif status["tid"] is not None and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
            fetched = format_count(status["transactions"], "transaction")
            sys.stderr.write(
                f"fetching: {fetched}, {self._size} bytes, up to {status['tid']}\n"
            )


def _lacks_list(status: SecondaryStatus) -> bool:
    """Whether the list of dropped transactions is still to be written."""
    return bool(status["dropped_list"] == "pending")


def _has_all(status: SecondaryStatus) -> bool:
    """Whether the secondary has what the primary had when the connection began."""
    if not status["connected"] or status["tid"] is None:
        return False
    if status["primary_tid"] is not None:
        return bool(status["tid"] >= status["primary_tid"]) and not _lacks_list(status)
    lag, caught_up = status["lag_seconds"], status["caught_up"]
    if quiet_means_caught_up(status["state"], caught_up=caught_up, lag=lag):
        return True
    last = max(status["since"] or 0.0, status["last_received"] or 0.0)
    return bool(status["state"] == "following" and time.time() - last > _QUIET)
