"""Detection of terminals that support cursor movement."""

import os
from typing import TextIO

DUMB = frozenset({"dumb", "unknown"})
"""Values of TERM for terminals that can only print lines."""


def is_screen(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal that supports cursor movement."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") not in DUMB
