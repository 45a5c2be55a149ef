"""Persistent classes and operations for the tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

import transaction

from dobbin.persistent import Persistent, PersistentDict, checkout

if TYPE_CHECKING:
    from collections.abc import Callable

    from dobbin.database import Database


class Thing(Persistent):
    """An object with any attributes."""

    def __init__(self, **attributes: Any) -> None:
        for name, value in attributes.items():
            setattr(self, name, value)


class Slotted(Persistent):
    """An object with a slot and other attributes."""

    __slots__ = ("weight",)


class Counter(Persistent):
    """A counter that resolves conflicts: increments at the same time are added."""

    def __init__(self, count: int = 0) -> None:
        self.count = count

    def increment(self) -> None:
        self.count += 1

    @property
    def double(self) -> int:
        return 2 * self.count

    @double.setter
    def double(self, value: int) -> None:
        self.count = value // 2

    @staticmethod
    def _p_resolve_conflict(old: Any, saved: Any, new: Any) -> Any:
        return {**saved, "count": saved["count"] + new["count"] - old["count"]}


class Upper(Persistent, MutableMapping[str, Any]):
    """A mapping that is not a `PersistentDict`."""

    __hash__ = object.__hash__

    def __init__(self) -> None:
        self.stored: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        return self.stored[key.upper()]

    def __setitem__(self, key: str, value: Any) -> None:
        self.stored[key.upper()] = value

    def __delitem__(self, key: str) -> None:
        del self.stored[key.upper()]

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


class Tree(PersistentDict):
    """A subclass of `PersistentDict`."""


def elect(db: Database, root: Any) -> Any:
    """Make an object the root, and commit."""
    db.elect(root)
    transaction.commit()
    return root


def change(obj: Any, **attributes: Any) -> None:
    """Commit changes of an object."""
    checkout(obj)
    for name, value in attributes.items():
        setattr(obj, name, value)
    transaction.commit()


def in_thread(work: Callable[[], Any]) -> Any:
    """Call `work` in a new thread; return its result or raise its exception."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as error:  # noqa: BLE001 -- raised in the calling thread
            outcome.append((None, error))
            transaction.abort()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    result, error = outcome[0]
    if error is not None:
        raise error
    return result
