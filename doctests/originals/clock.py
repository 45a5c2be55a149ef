"""The clock of 2007."""

from __future__ import annotations

import calendar

START = calendar.timegm((2007, 3, 21, 20, 32, 57))
"""When the documents' first transaction was made: 2007-03-21 20:32:57 UTC."""


class Clock:
    """Stands still, except that each transaction takes a second."""

    def __init__(self) -> None:
        self._now = START

    def time(self) -> float:
        """Replace `time.time`."""
        return float(self._now)

    def tick(self) -> None:
        """Let a second pass."""
        self._now += 1
