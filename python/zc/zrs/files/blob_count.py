"""The number of blob files in a directory, counted in the background.

Nothing maintains that number, and a directory may have millions of files. A thread therefore
counts them slowly, and the result is that of the last complete count.
"""

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

PAUSE = 3600.0
"""Seconds from the end of a count to the next."""
WORK_SECONDS = 0.005
"""Seconds of work after which the thread pauses."""
REST = 20
"""The length of a pause, as a multiple of the time worked."""
_SUFFIX = ".blob"
_UNFINISHED = "tmp"


@dataclass(frozen=True)
class Counted:
    """The result of a count."""

    time: float
    """The end of the count, in seconds since 1970."""
    files: int
    bytes: int


class BlobCount:
    """Counts the blob files in a directory, until it is closed.

    :param directory: the blob directory; directories that cannot be read count as empty
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._closed = threading.Event()
        self._last: Counted | None = None
        self._thread = threading.Thread(
            target=self._run, name=f"zrs blob count {directory}", daemon=True
        )
        self._thread.start()

    @property
    def last(self) -> Counted | None:
        """The last complete count, None before the first."""
        return self._last

    def close(self) -> None:
        """Stop counting, without waiting for a file system that does not respond."""
        self._closed.set()
        self._thread.join(WORK_SECONDS * REST)

    def _run(self) -> None:
        while not self._closed.is_set():
            files = size = 0
            began = time.monotonic()
            for length in _lengths(self._directory):
                if length is not None:
                    files += 1
                    size += length
                worked = time.monotonic() - began
                if worked >= WORK_SECONDS:
                    if self._closed.wait(worked * REST):
                        return
                    began = time.monotonic()
            self._last = Counted(time.time(), files, size)
            self._closed.wait(PAUSE)


def _lengths(top: str) -> Iterator[int | None]:
    """Yield the length of each blob file, and None for each other entry of a directory."""
    directories = [top]
    while directories:
        directory = directories.pop()
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if directory != top or entry.name != _UNFINISHED:
                            directories.append(entry.path)
                        yield None
                    elif entry.name.endswith(_SUFFIX):
                        yield _length(entry)
        except OSError:
            # A pack removes directories; other machines may, too.
            continue


def _length(entry: "os.DirEntry[str]") -> int | None:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return None
