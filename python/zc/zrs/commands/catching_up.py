"""The progress of a secondary that catches up, on standard error.

If the primary announces its position, progress is measured in bytes. Otherwise it is measured
in the time of the transactions, from the first one received to now.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from zc.zrs.commands.progress import Show, format_amount, progress
from zc.zrs.status.format import seconds_of
from zc.zrs.status.schema import SecondaryStatus
from zc.zrs.status.states import meaning

SECONDS_BETWEEN_UPDATES = 0.2


@contextlib.contextmanager
def showing_catch_up(status: Callable[[], SecondaryStatus]) -> Iterator[None]:
    """Show progress during the block until the secondary follows for the first time.

    :param status: the secondary's status
    """
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(status, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _watch(status: Callable[[], SecondaryStatus], over: threading.Event) -> None:
    # The bar is shown only while data is received.
    while not over.wait(SECONDS_BETWEEN_UPDATES):
        seen = status()
        if meaning(seen["state"]).ready is not None:
            return
        if seen["state"] == "catching up" and seen.get("transactions"):
            with progress() as show:
                _show_connection(status, over, show)


def _show_connection(
    status: Callable[[], SecondaryStatus], over: threading.Event, show: Show
) -> None:
    catch_up = CatchUp()
    while not over.wait(SECONDS_BETWEEN_UPDATES):
        seen = status()
        if seen["state"] != "catching up":
            return
        catch_up.show(seen, show)


class CatchUp:
    """The progress of one connection."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._bytes: int | None = None

    def show(self, status: SecondaryStatus, show: Show) -> None:
        """Show a status of the secondary."""
        transactions = f"{status['transactions_per_second']:.0f} transactions/s"
        rate = f"{transactions}, {format_amount(status['bytes_per_second'], 'bytes')}/s"
        if self._bytes is None:
            self._bytes = status["bytes"]
        if (total := status.get("primary_bytes")) is not None:
            done = min(status["bytes"] - self._bytes, total)
            show("catching up", done, total, "bytes", rate)
        elif (reached := seconds_of(status["tid"])) is not None:
            if self._first is None:
                self._first = reached
            history = time.time() - self._first
            show("catching up", round(reached - self._first), round(history), "seconds", rate)
