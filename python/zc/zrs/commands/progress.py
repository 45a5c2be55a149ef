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
SECONDS_BETWEEN_LOOKS = 0.2


class Show(Protocol):
    """Takes what is being done, how much of it is done, and how much there is."""

    def __call__(
        self, title: str, done: int, total: int, unit: str = "", rate: str = ""
    ) -> None:
        """Show it.

        :param unit: ``bytes``, ``seconds``, or what else is counted, in the plural
        :param rate: what to show instead of how fast the work goes by that unit
        """


@contextlib.contextmanager
def progress() -> Iterator[Show]:
    """Give a function to call with how far the work has come."""
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
def watching(look: Callable[[], tuple[str, int, int, str] | None]) -> Iterator[None]:
    """Show how far a call has come that says nothing itself, in the block.

    `look` is called in a thread of its own, and returns what `Show` takes, or None for now.
    """
    over = threading.Event()

    def watch(show: Show) -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            if (seen := look()) is not None:
                show(*seen)

    with progress() as show:
        thread = threading.Thread(target=watch, args=(show,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


class _Pace:
    """How fast a piece of work goes."""

    def __init__(self, done: int, now: float) -> None:
        self._first = done
        self._began = now

    def rate(self, done: int, now: float) -> float:
        """Return how much is done in a second; 0 where that is not known."""
        taken = now - self._began
        return (done - self._first) / taken if taken > 0 else 0.0


class _Paces:
    def __init__(self) -> None:
        self._paces: dict[str, _Pace] = {}

    def texts(
        self, title: str, done: int, total: int, unit: str, shown: str
    ) -> tuple[str, str]:
        """Return the rate and the remaining time, as far as they are known."""
        now = time.monotonic()
        rate = self._paces.setdefault(title, _Pace(done, now)).rate(done, now)
        if rate <= 0:
            return shown, ""
        # What would take longer than this is not known to end.
        left = min(max(total - done, 0) / rate, 999 * 3600)
        return shown or shown_rate(rate, unit), f"{dt.timedelta(seconds=round(left))} left"


class _Bars:
    def __init__(self, bar: "rich.progress.Progress") -> None:
        self._bar = bar
        self._tasks: dict[str, rich.progress.TaskID] = {}
        self._paces = _Paces()

    def show(self, title: str, done: int, total: int, unit: str = "", rate: str = "") -> None:
        speed, left = self._paces.texts(title, done, total, unit, rate)
        if title not in self._tasks:
            self._tasks[title] = self._bar.add_task(title, total=total, rate=speed, left=left)
        self._bar.update(self._tasks[title], completed=done, total=total, rate=speed, left=left)


class _Lines:
    """Shows progress in plain lines, the first after `SECONDS_BETWEEN_LINES`."""

    def __init__(self) -> None:
        self._paces = _Paces()
        self._next = time.monotonic() + SECONDS_BETWEEN_LINES

    def show(self, title: str, done: int, total: int, unit: str = "", rate: str = "") -> None:
        texts = self._paces.texts(title, done, total, unit, rate)
        if time.monotonic() >= self._next:
            percent = 100 * done // total if total else 100
            rest = "".join(f", {text}" for text in texts if text)
            sys.stderr.write(f"{title}: {percent}% of {shown_amount(total, unit)}{rest}\n")
            self._next = time.monotonic() + SECONDS_BETWEEN_LINES


def shown_amount(count: float, unit: str) -> str:
    """Return an amount with its unit, which for bytes is one that suits it."""
    if unit == "seconds":
        return str(dt.timedelta(seconds=round(count)))
    return format_size(count) if unit == "bytes" else f"{count:.0f} {unit}".rstrip()


def shown_rate(rate: float, unit: str) -> str:
    """Return a rate, per second."""
    return f"{shown_amount(rate, unit)}/s" if unit == "bytes" else f"{rate:.0f} {unit}/s"
