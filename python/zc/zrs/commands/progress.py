"""Progress on standard error: with rich on a terminal a moving bar, else a line now and then."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

try:
    import rich.console
    import rich.progress
except ModuleNotFoundError:  # the extra `cli` is not installed
    RICH = False
else:
    RICH = True

SECONDS_BETWEEN_LINES = 5.0

Show = Callable[[str, int, int], None]
"""Takes what is being done, how much of it is done, and how much there is."""


@contextlib.contextmanager
def progress() -> Iterator[Show]:
    """Give a function to call with how far the work has come."""
    if RICH and sys.stderr.isatty():
        console = rich.console.Console(stderr=True)
        # Lines printed to the same terminal appear above the bar; others go their way.
        with rich.progress.Progress(
            console=console, redirect_stdout=sys.stdout.isatty(), transient=True
        ) as bar:
            yield _Bars(bar).show
    else:
        yield _Lines().show


class _Bars:
    def __init__(self, bar: "rich.progress.Progress") -> None:
        self._bar = bar
        self._tasks: dict[str, rich.progress.TaskID] = {}

    def show(self, title: str, done: int, total: int) -> None:
        if title not in self._tasks:
            self._tasks[title] = self._bar.add_task(title, total=total)
        self._bar.update(self._tasks[title], completed=done, total=total)


class _Lines:
    """Shows progress in plain lines, none for what is done soon."""

    def __init__(self) -> None:
        self._next = time.monotonic() + SECONDS_BETWEEN_LINES

    def show(self, title: str, done: int, total: int) -> None:
        if time.monotonic() >= self._next:
            percent = 100 * done // total if total else 100
            sys.stderr.write(f"{title}: {percent}% of {total}\n")
            self._next = time.monotonic() + SECONDS_BETWEEN_LINES
