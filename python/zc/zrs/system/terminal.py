"""Which streams are terminals that can be drawn on."""

import os
from typing import TextIO

DUMB = frozenset({"dumb", "unknown"})
"""Values of TERM for terminals that take nothing but lines."""


def is_screen(stream: TextIO | None) -> bool:
    """Tell whether a stream is a terminal that can be drawn on."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") not in DUMB
