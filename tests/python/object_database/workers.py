"""Threads that perform one operation at a time for a test."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

import transaction

if TYPE_CHECKING:
    from collections.abc import Callable


def outcome(task: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Call `work`; return its result and its exception."""
    try:
        return task(), None
    except BaseException as error:  # noqa: BLE001 -- raised in the calling thread
        return None, error


class Worker:
    """A thread with its own transactions."""

    def __init__(self) -> None:
        self._tasks: queue.Queue[Callable[[], Any] | None] = queue.Queue()
        self._results: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            self._results.put(outcome(task))
        transaction.abort()

    def do(self, task: Callable[[], Any]) -> Any:
        """Call `work` in the thread; return its result or raise its exception."""
        self._tasks.put(task)
        result, error = self._results.get(timeout=60)
        if error is not None:
            raise error
        return result

    def end(self) -> None:
        """End the thread."""
        self._tasks.put(None)
        self._thread.join()
