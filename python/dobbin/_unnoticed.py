"""Detection of shared objects that were changed in place without a checkout, for `debug`.

Such a change is visible to all threads, is not stored, and is lost when the object is loaded
again. A plain Python list does not report changes, so fingerprints of all values are compared.
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

    from dobbin._slots import Slots

_log = logging.getLogger("dobbin")


class _State(NamedTuple):
    obj: weakref.ref[Slots]
    values: dict[tuple[str, Any], int]


class Watcher:
    """The fingerprints of the loaded objects of a database."""

    def __init__(self) -> None:
        self._known: dict[int, _State] = {}

    def note(self, obj: Slots) -> None:
        """Record the current state as unchanged; called under `transitions`."""
        self._known[id(obj)] = _State(weakref.ref(obj), _values(obj))

    def check(self, unload: Callable[[Slots], bool]) -> None:
        """Raise `UnnoticedChangeError` if a recorded state has changed.

        The changed objects are loaded again. While another exception is being handled, the
        error is logged instead.
        """
        error = self._find(unload)
        if error is None:
            return
        if sys.exc_info()[0] is None:
            raise error
        _log.error("%s", error)

    def log(self) -> None:
        """Log the error that `check` would raise, without loading objects again."""
        error = self._find(lambda _obj: True)
        if error is not None:
            _log.error("%s", error)

    def _find(self, unload: Callable[[Slots], bool]) -> UnnoticedChangeError | None:
        changed: list[tuple[Slots, list[str]]] = []
        for key, (reference, before) in list(self._known.items()):
            obj = reference()
            with transitions:
                if obj is None or is_ghost(obj):
                    self._known.pop(key, None)
                    continue
                names = _differences(before, _values(obj))
                if names:
                    changed.append((obj, names))
                    if unload(obj):
                        self._known.pop(key, None)
                    else:
                        self.note(obj)
        return UnnoticedChangeError(changed) if changed else None


def _values(obj: Slots) -> dict[tuple[str, Any], int]:
    values = {("attribute", name): _digest(value) for name, value in attributes_of(obj).items()}
    for key, value in (items_of(obj) or {}).items():
        values["item", key] = _digest(value)
    return values


def _digest(value: Any) -> int:
    return hash(fingerprint(value))


def _differences(before: dict[Any, int], after: dict[Any, int]) -> list[str]:
    names = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return [f"{kind} {name!r}" for kind, name in names]
