"""Twisted's reactor in a separate thread, for programs that do not run one.

Only this module imports Twisted, and only when `reactor` is called.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import threading
from typing import Any

__all__ = ["reactor", "shutdown"]

logger = logging.getLogger(__name__)

_START_TIMEOUT = 10.0  # seconds
_STOP_TIMEOUT = 10.0  # seconds

_lock = threading.Lock()
_thread: threading.Thread | None = None
_shutting_down = threading.Event()


def reactor() -> Any:
    """Return Twisted's running reactor; start it in a daemon thread if necessary.

    From then on, Twisted's log goes to the logger `zc.zrs.reactor`. A reactor cannot be started
    twice: after `shutdown` this raises `RuntimeError`. Raises `ImportError` if Twisted is not
    installed.
    """
    twisted_reactor = importlib.import_module("twisted.internet.reactor")
    with _lock:
        if _thread is None and not twisted_reactor.running:
            _start(twisted_reactor)
        elif _thread is not None and not twisted_reactor.running:
            raise RuntimeError("Twisted's reactor was shut down; it cannot be restarted")
    return twisted_reactor


def shutdown() -> None:
    """Stop the reactor if `reactor` has started it, and wait for its thread."""
    with _lock:
        thread = _thread
    _shutting_down.set()
    if thread is None or not thread.is_alive():
        return
    twisted_reactor = importlib.import_module("twisted.internet.reactor")
    twisted_reactor.callFromThread(_stop, twisted_reactor)
    if thread is not threading.current_thread():
        thread.join(_STOP_TIMEOUT)


def _start(twisted_reactor: Any) -> None:
    global _thread  # noqa: PLW0603 - there is one Twisted reactor in a process
    _forward_log()
    running = threading.Event()
    twisted_reactor.callWhenRunning(running.set)
    _thread = threading.Thread(
        target=_run,
        args=(twisted_reactor,),
        name="zrs reactor",
        daemon=True,
    )
    _thread.start()
    atexit.register(shutdown)
    if not running.wait(_START_TIMEOUT):
        raise RuntimeError("Twisted's reactor did not start")


def _run(twisted_reactor: Any) -> None:
    try:
        twisted_reactor.run(installSignalHandlers=False)
    except BaseException:
        logger.exception("The reactor errored")
    if not _shutting_down.is_set():
        logger.critical("The twisted reactor quit unexpectedly")


def _stop(twisted_reactor: Any) -> None:
    if twisted_reactor.running:
        twisted_reactor.stop()


def _forward_log() -> None:
    log = importlib.import_module("twisted.python.log")

    def forward(event: dict[str, Any]) -> None:
        text = log.textFromEventDict(event)
        if text is not None:
            logger.log(logging.ERROR if event["isError"] else logging.INFO, "%s", text)

    # Without Twisted's default observer, which prints, and without redirecting sys.stdout.
    log.startLoggingWithObserver(forward, setStdout=False)
