"""The output of the demo: a progress bar with rich, occasional lines without it."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from zc.zrs.system.terminal import is_screen

try:
    import rich.console
    import rich.progress
except ModuleNotFoundError:  # the extra `cli` is not installed
    RICH = False
else:
    RICH = True

SECONDS_BETWEEN_LINES = 0.5


def show_line(text: str) -> None:
    """Print a line."""
    print(text, flush=True)  # noqa: T201 -- this is the demo's output


@contextlib.contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with how many of `total` are done."""
    began = time.monotonic()
    if RICH and is_screen(sys.stdout):
        with rich.progress.Progress() as bar:
            task = bar.add_task(title, total=total)
            yield lambda done: bar.update(task, completed=done)
    else:
        lines = _Lines(title, total)
        yield lines.show
    show_line(f"  {title}: done in {time.monotonic() - began:.1f} s")


class _Lines:
    """Shows progress in occasional plain lines."""

    def __init__(self, title: str, total: int) -> None:
        self._title = title
        self._total = total
        self._next = time.monotonic()

    def show(self, done: int) -> None:
        if time.monotonic() >= self._next:
            show_line(f"  {self._title}: {done} of {self._total}")
            self._next = time.monotonic() + SECONDS_BETWEEN_LINES
