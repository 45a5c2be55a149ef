"""The process as a whole: its exit and its forks."""

import atexit
import os

from zc.zrs import _zrs

# The native module's threads call into Python, so they must end before the interpreter.
atexit.register(_zrs.shut_down)


class Owner:
    """Records the process in which an object was created.

    After a fork, the child has copies of all objects, but not their threads. Only the parent
    may close their sockets, files and locks.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()

    def is_this_process(self) -> bool:
        """Return whether the object was created in this process, not inherited by a fork."""
        return os.getpid() == self._pid
