"""A clock that both storages take their transaction ids from."""

from __future__ import annotations

from unittest.mock import patch

START = 1_700_000_000.0  # seconds since 1970


class Clock:
    """Replaces `time.time`; the time stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START
        self._patch = patch("time.time", lambda: self.now)
        self._patch.start()

    def move(self, seconds: float) -> None:
        """Move forward, or with a negative number backward."""
        self.now += seconds

    def restore(self) -> None:
        """Leave the time unchanged."""
        self._patch.stop()
