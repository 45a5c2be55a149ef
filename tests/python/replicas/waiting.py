"""Waiting for other threads and processes.

Only failing tests wait long; no test depends on speed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

DEADLINE = 60.0
"""Seconds after which a test gives up hope."""


def wait_until(condition: Callable[[], T], what: str = "", deadline: float = DEADLINE) -> T:
    """Return the first true result of `condition`; fail after `deadline` seconds."""
    end = time.monotonic() + deadline
    while not (result := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline} s: {what or condition}")
        time.sleep(0.005)
    return result


def wait_caught_up(primary: object, secondary: object) -> None:
    """Wait until the secondary has the primary's last transaction."""

    def caught_up() -> bool:
        return last_transaction(secondary) >= last_transaction(primary)

    wait_until(caught_up, "the secondary catches up")
    assert last_transaction(secondary) == last_transaction(primary)


def last_transaction(storage: object) -> bytes:
    """Return a storage's last transaction id, or zeros."""
    tid: bytes = storage.lastTransaction() or bytes(8)  # type: ignore[attr-defined]
    return tid
