"""``zrsmonitor``: logs the findings of ``zrs-nagios`` on a schedule, until a signal ends it."""

import argparse
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from zc.zrs.commands.arguments import add_version, positive_duration
from zc.zrs.commands.log_file import log_handler
from zc.zrs.commands.signals import signals_blocked, wait_for_stop
from zc.zrs.nagios import add_servers
from zc.zrs.system.severity import CRITICAL, OK, WARNING
from zc.zrs.zeo_lag.comparison import Limits, compare_servers

DEFAULT_INTERVAL = 60.0
"""Seconds between the starts of two checks."""

_LEVELS = {OK: logging.INFO, WARNING: logging.WARNING, CRITICAL: logging.ERROR}

logger = logging.getLogger(__name__)


@signals_blocked()
def main(argv: Sequence[str] | None = None) -> int:
    """Compare two servers on a schedule until a signal; return the exit status."""
    parser = _parser()
    given = parser.parse_args(argv)
    try:
        _configure_logging(given.log_file)
    except OSError as error:
        parser.error(f"cannot log to {given.log_file}: {error.strerror}")
    monitor = Monitor(
        given.primary,
        given.secondary,
        Limits(given.warning, given.error),
        interval=given.interval,
        timeout=given.timeout,
    )
    monitor.start()
    status = wait_for_stop()
    monitor.stop()
    return status


class Monitor:
    """Compares two servers on a schedule, in a separate thread.

    :param interval: seconds between the starts of two checks
    :param timeout: timeout for each server, in seconds
    """

    def __init__(
        self, primary: str, secondary: str, limits: Limits, *, interval: float, timeout: float
    ) -> None:
        self._servers = primary, secondary
        self._limits = limits
        self._interval = interval
        self._timeout = timeout
        self._stopping = threading.Event()
        # A daemon thread, so that a server that does not answer does not delay the exit.
        self._thread = threading.Thread(target=self._run, name=__name__, daemon=True)

    def start(self) -> None:
        """Start with a first check."""
        self._thread.start()

    def stop(self) -> None:
        """Stop checking."""
        self._stopping.set()

    def compare(self) -> None:
        """Compare the servers once, and log the findings."""
        for finding in compare_servers(*self._servers, self._limits, self._timeout):
            logger.log(_LEVELS[finding.state], "%s", finding.text)

    def _compare_and_log_errors(self) -> None:
        try:
            self.compare()
        except Exception:  # a silent monitor would look like success
            # The log itself may be what fails.
            with contextlib.suppress(OSError):
                logger.exception("cannot compare %s and %s", *self._servers)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            self._compare_and_log_errors()
            # Missed checks are not repeated.
            due = max(due + self._interval, time.monotonic())
            self._stopping.wait(due - time.monotonic())


def _configure_logging(path: Path | None) -> None:
    logging.basicConfig(
        handlers=[log_handler(path)],
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zrsmonitor",
        description="Log on a schedule how far the ZEO server of a secondary is behind that of its"
        " primary.",
    )
    add_version(parser)
    add_servers(parser)
    parser.add_argument(
        "-i",
        "--interval",
        type=positive_duration,
        default=DEFAULT_INTERVAL,
        metavar="DURATION",
        help=f"time between checks (default: {DEFAULT_INTERVAL:g})",
    )
    parser.add_argument(
        "--log-file",
        type=Path,
        metavar="FILE",
        help="log to this file instead of standard error; SIGUSR2 reopens it",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
