"""Delays commits that are about to begin while a client moves to another server."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any


class CommitGate:
    """Determines whether a client storage is between two commits, and keeps it there.

    :param commit_lock: the lock that the storage holds from the beginning of a commit to its
        end; it is read, never acquired
    """

    def __init__(self, commit_lock: Any) -> None:
        self._commit_lock = commit_lock
        self._condition = threading.Condition()
        self._beginning = 0
        self._is_closed = False

    @contextlib.contextmanager
    def beginning(self, timeout: float) -> Iterator[None]:
        """Begin a commit while the block runs, after waiting until the gate is open.

        After `timeout` seconds the commit begins anyway; without a connection it fails.
        """
        with self._condition:
            self._condition.wait_for(lambda: not self._is_closed, timeout)
            self._beginning += 1
        try:
            yield
        finally:
            with self._condition:
                self._beginning -= 1

    def close(self) -> None:
        """Delay commits that have not begun."""
        with self._condition:
            self._is_closed = True

    def open(self) -> None:
        """Let commits begin."""
        with self._condition:
            self._is_closed = False
            self._condition.notify_all()

    @property
    def is_quiet(self) -> bool:
        """Whether no commit is in progress. Stays true while the gate is closed."""
        with self._condition:
            return not self._beginning and not self._commit_lock.locked()
