"""The log file of a daemon, which is reopened after it was renamed or removed."""

import logging
import logging.handlers
import os
from pathlib import Path

from zc.zrs.commands.output import write_error

logger = logging.getLogger("zc.zrs.log_file")


class LogFileHandler(logging.handlers.WatchedFileHandler):
    """Logs to a file, and reopens it when it was renamed or removed.

    A file that cannot be reopened is reported on standard error; the call that logs does not
    raise, and the next one tries to open the file again.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def reopen(self) -> None:
        """Open the file again; raise `OSError` if it cannot be opened."""
        self.acquire()
        try:
            if self.stream is not None:
                self.reopenIfNeeded()
        finally:
            self.release()


def log_handler(path: Path | None) -> logging.Handler:
    """Return a handler that logs to a file, or to standard error without one.

    Raises `OSError` if the file cannot be opened.
    """
    return logging.StreamHandler() if path is None else LogFileHandler(path)


def reopen_log_files() -> None:
    """Reopen the log files of the root logger."""
    files = [one for one in logging.getLogger().handlers if isinstance(one, LogFileHandler)]
    if not files:
        logger.warning("received SIGUSR2, but no log file is configured (--log-file)")
    for handler in files:
        _reopen(handler)


def _reopen(handler: LogFileHandler) -> None:
    try:
        handler.reopen()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        # Not logged, because the log itself has failed.
        write_error(f"cannot reopen the log file {handler.baseFilename}: {reason}")
    else:
        logger.info("log file %s reopened", handler.baseFilename)
