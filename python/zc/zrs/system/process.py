"""What concerns the process as a whole: its end, and its forks."""

import atexit
import os

from zc.zrs import _zrs

# The native module's threads call into Python, so they end before Python does.
atexit.register(_zrs.shut_down)


class Owner:
    """Remembers in which process an object was made.

    After a fork the child has a copy of every object, but none of the threads and
    sockets behind it, and files and locks that are the parent's to close.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()

    def is_this_process(self) -> bool:
        """Tell whether the object was made in this very process, not inherited."""
        return os.getpid() == self._pid
