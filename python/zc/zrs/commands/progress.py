"""Progress on standard error: a bar on a terminal if rich is installed, else occasional lines.

Both show how much is done, the rate, and the remaining time.
"""

import contextlib
import datetime as dt
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from zc.zrs.system.quantities import format_size
from zc.zrs.system.terminal import is_screen

try:
    import rich.console
    import rich.progress
except ModuleNotFoundError:  # the extra `cli` is not installed
    RICH = False
else:
    RICH = True

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_UPDATES = 0.2


class Show(Protocol):
    """A function that takes a title, the amount done, and the total."""

    def __call__(
        self, title: str, done: int, total: int, unit: str = "", rate: str = ""
    ) -> None:
        """Show the progress.

        :param unit: ``bytes``, ``seconds``, or another noun in the plural
        :param rate: text to show instead of the rate in that unit
        """


@contextlib.contextmanager
def progress() -> Iterator[Show]:
    """Yield a function that shows the progress of the work."""
    if not (RICH and is_screen(sys.stderr)):
        yield _Lines().show
        return
    # Lines printed to the same terminal appear above the bar; other output is not redirected.
    with rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.TaskProgressColumn(),
        rich.progress.TextColumn("{task.fields[rate]}"),
        rich.progress.TextColumn("{task.fields[left]}"),
        console=rich.console.Console(stderr=True),
        redirect_stdout=is_screen(sys.stdout),
        transient=True,
    ) as bar:
        yield _Bars(bar).show


@contextlib.contextmanager
def watching(position: Callable[[], tuple[str, int, int, str] | None]) -> Iterator[None]:
    """Show the progress of a call, in the block, that does not report it itself.

    `position` is called in a separate thread, and returns the arguments of `Show`, or None.
    """
    over = threading.Event()

    def watch(show: Show) -> None:
        while not over.wait(SECONDS_BETWEEN_UPDATES):
            if (seen := position()) is not None:
                show(*seen)

    with progress() as show:
        thread = threading.Thread(target=watch, args=(show,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


class _Rate:
    """The rate of one piece of work."""

    def __init__(self, done: int, now: float) -> None:
        self._first = done
        self._began = now

    def rate(self, done: int, now: float) -> float:
        """Return the amount done per second, 0 if it is unknown."""
        taken = now - self._began
        return (done - self._first) / taken if taken > 0 else 0.0


class _Rates:
    def __init__(self) -> None:
        self._rates: dict[str, _Rate] = {}

    def texts(
        self, title: str, done: int, total: int, unit: str, shown: str
    ) -> tuple[str, str]:
        """Return the rate and the remaining time, empty where unknown."""
        now = time.monotonic()
        rate = self._rates.setdefault(title, _Rate(done, now)).rate(done, now)
        if rate <= 0:
            return shown, ""
        # A longer remaining time counts as unknown.
        left = min(max(total - done, 0) / rate, 999 * 3600)
        return shown or format_rate(rate, unit), f"{dt.timedelta(seconds=round(left))} left"


class _Bars:
    def __init__(self, bar: "rich.progress.Progress") -> None:
        self._bar = bar
        self._tasks: dict[str, rich.progress.TaskID] = {}
        self._rates = _Rates()

    def show(self, title: str, done: int, total: int, unit: str = "", rate: str = "") -> None:
        speed, left = self._rates.texts(title, done, total, unit, rate)
        if title not in self._tasks:
            self._tasks[title] = self._bar.add_task(title, total=total, rate=speed, left=left)
        self._bar.update(self._tasks[title], completed=done, total=total, rate=speed, left=left)


class _Lines:
    """Shows progress in plain lines, the first after `SECONDS_BETWEEN_LINES`."""

    def __init__(self) -> None:
        self._rates = _Rates()
        self._next = time.monotonic() + SECONDS_BETWEEN_LINES

    def show(self, title: str, done: int, total: int, unit: str = "", rate: str = "") -> None:
        texts = self._rates.texts(title, done, total, unit, rate)
        if time.monotonic() >= self._next:
            percent = 100 * done // total if total else 100
            rest = "".join(f", {text}" for text in texts if text)
            sys.stderr.write(f"{title}: {percent}% of {format_amount(total, unit)}{rest}\n")
            self._next = time.monotonic() + SECONDS_BETWEEN_LINES


def format_amount(count: float, unit: str) -> str:
    """Return an amount with its unit; bytes get a suitable prefix."""
    if unit == "seconds":
        return str(dt.timedelta(seconds=round(count)))
    return format_size(count) if unit == "bytes" else f"{count:.0f} {unit}".rstrip()


def format_rate(rate: float, unit: str) -> str:
    """Return a rate, per second."""
    return f"{format_amount(rate, unit)}/s" if unit == "bytes" else f"{rate:.0f} {unit}/s"
