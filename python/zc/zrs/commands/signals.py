"""The signals of a daemon, which end it or reopen its log file.

They are those of ZEO's runzeo: SIGTERM and SIGINT end the process, so does SIGHUP with exit
status 1, so that a supervisor starts it again, and SIGUSR2 reopens the log file. SIGUSR1 is
logged and otherwise ignored.
"""

import contextlib
import logging
import signal
from collections.abc import Iterator

from zc.zrs.commands.log_file import reopen_log_files

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
REOPEN_SIGNAL = signal.SIGUSR2
IGNORED_SIGNALS = {signal.SIGUSR1}

RESTART_STATUS = 1
"""The exit status after SIGHUP, as for runzeo."""

logger = logging.getLogger("zc.zrs.signals")


def handled_signals() -> set[signal.Signals]:
    """Return the signals that a daemon handles.

    A signal that the parent process set to be ignored, as nohup does with SIGHUP, stays
    ignored.
    """
    all_signals = {*STOP_SIGNALS, REOPEN_SIGNAL, *IGNORED_SIGNALS}
    return {one for one in all_signals if signal.getsignal(one) is not signal.SIG_IGN}


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Block the daemon's signals in this thread and those started later, for `wait_for_stop`.

    Handlers would run before the wait begins, and the wait would miss the signal. The signals
    stay blocked when the block has ended, so that a second one does not interrupt the shutdown;
    if the block raises, they are as before.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, handled_signals())
    try:
        yield
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise


def wait_for_stop() -> int:
    """Wait until a signal ends the daemon; return the exit status. Reopens the log meanwhile."""
    while True:
        number = signal.sigwait(handled_signals())
        if number == REOPEN_SIGNAL:
            reopen_log_files()
        elif number in IGNORED_SIGNALS:
            logger.warning("received %s, which has no effect", signal.Signals(number).name)
        elif number == signal.SIGHUP:
            logger.info("ended by SIGHUP")
            return RESTART_STATUS
        else:
            return 0
