"""The background thread of a session.

ZooKeeper's events become functions that this thread calls one after the other, so that the
changes of a node are reported in order. This module must not depend on kazoo, whose own threads
must not block.
"""

import contextlib
import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)


class Worker:
    """Calls functions in a thread of its own, in order, until it is stopped."""

    def __init__(self, name: str) -> None:
        self._condition = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], Any]]] = []
        self._numbers = itertools.count()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, function: Callable[[], Any], delay: float = 0) -> None:
        """Call a function after `delay` seconds, unless the worker is stopped before."""
        with self._condition:
            # Functions without a delay are called in the order of their numbers.
            due = time.monotonic() + delay if delay else 0.0
            heapq.heappush(self._due, (due, next(self._numbers), function))
            self._condition.notify()

    def stop(self) -> None:
        """Do not start any more functions."""
        with self._condition:
            self._stopped = True
            self._due.clear()
            self._condition.notify()

    def join(self) -> None:
        """Wait for the function that is being called; do nothing when called from it."""
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _next(self) -> Callable[[], Any] | None:
        with self._condition:
            while not self._stopped:
                delay = self._due[0][0] - time.monotonic() if self._due else None
                if delay is not None and delay <= 0:
                    return heapq.heappop(self._due)[2]
                self._condition.wait(delay)
            return None

    def _run(self) -> None:
        while function := self._next():
            self._call(function)
            del function  # and its object, however long the wait for the next one is

    def _call(self, function: Callable[[], Any]) -> None:
        try:
            function()
        except Exception:
            logger.exception("%s: %r failed", self._thread.name, function)


class InCallback(threading.local):
    """Whether this thread is in a function that a change has called."""

    depth = 0

    @contextlib.contextmanager
    def entered(self) -> Any:
        """Mark the thread while the block runs."""
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1
