"""Finding shared objects that were changed in place without a checkout, for `debug`.

Such a change is seen by all threads, is not stored, and is gone when the object is loaded
again. Nothing in a plain Python list tells of it, so fingerprints of all values are compared.
"""

from __future__ import annotations

import logging
import sys
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from dobbin._classes import attributes_of, is_ghost, transitions
from dobbin._overlay import fingerprint
from dobbin._slots import items_of
from dobbin.exc import UnnoticedChangeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dobbin.persistent import Persistent

_log = logging.getLogger("dobbin")


class _State(NamedTuple):
    obj: weakref.ref[Persistent]
    values: dict[tuple[str, Any], int]


class Watcher:
    """The fingerprints of the objects of a database whose states are in memory."""

    def __init__(self) -> None:
        self._known: dict[int, _State] = {}

    def note(self, obj: Persistent) -> None:
        """Take a state for right; called under `transitions`."""
        self._known[id(obj)] = _State(weakref.ref(obj), _values(obj))

    def check(self, let_go: Callable[[Persistent], bool]) -> None:
        """Raise `UnnoticedChangeError` if a state is not what it was.

        The changed objects are loaded again. While another exception is handled, the error is
        logged instead.
        """
        error = self._find(let_go)
        if error is None:
            return
        if sys.exc_info()[0] is None:
            raise error
        _log.error("%s", error)

    def log(self) -> None:
        """Log what `check` would raise, without loading anything again."""
        error = self._find(lambda _obj: True)
        if error is not None:
            _log.error("%s", error)

    def _find(self, let_go: Callable[[Persistent], bool]) -> UnnoticedChangeError | None:
        changed: list[tuple[Persistent, list[str]]] = []
        for key, (reference, before) in list(self._known.items()):
            obj = reference()
            with transitions:
                if obj is None or is_ghost(obj):
                    self._known.pop(key, None)
                    continue
                names = _differences(before, _values(obj))
                if names:
                    changed.append((obj, names))
                    if let_go(obj):
                        self._known.pop(key, None)
                    else:
                        self.note(obj)
        return UnnoticedChangeError(changed) if changed else None


def _values(obj: Persistent) -> dict[tuple[str, Any], int]:
    values = {("attribute", name): _digest(value) for name, value in attributes_of(obj).items()}
    for key, value in (items_of(obj) or {}).items():
        values["item", key] = _digest(value)
    return values


def _digest(value: Any) -> int:
    return hash(fingerprint(value))


def _differences(before: dict[Any, int], after: dict[Any, int]) -> list[str]:
    names = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return [f"{kind} {name!r}" for kind, name in names]
