"""The attributes or items of a checkout: a shared dictionary, and changes to it."""

from __future__ import annotations

import copy
import datetime as dt
import decimal
import fractions
import io
import pickle
import sys
import types
import uuid
from collections.abc import Hashable, Iterator, MutableMapping
from typing import Any, TypeVar

from dobbin._classes import is_persistent
from dobbin._files import PersistentFile
from dobbin._streams import PersistentStream

K = TypeVar("K", bound=Hashable)

_ATOMIC = frozenset(
    {
        *(int, float, complex, bool, str, bytes, type(None), type, range),
        *(type(Ellipsis), type(NotImplemented)),
        *(types.FunctionType, types.BuiltinFunctionType),
        *(dt.date, dt.datetime, dt.time, dt.timedelta),
        *(decimal.Decimal, fractions.Fraction, uuid.UUID),
    }
)


class Overlay(MutableMapping[K, Any]):
    """A dictionary over a shared one, which is not changed.

    A value that could be changed in place is copied when it is read. Copies that were changed
    count as changes. The order of the keys is that of a dictionary.
    """

    def __init__(self, base: dict[K, Any], memo: dict[int, Any]) -> None:
        self.base = base
        self._memo = memo  # of the copies, so that parts shared by values stay shared
        self._copies: dict[K, Any] = {}
        self._written: dict[K, Any] = {}
        self._deleted: set[K] = set()
        self._added: dict[K, Any] = {}

    def __getitem__(self, key: K) -> Any:
        for layer in (self._added, self._written, self._copies):
            if key in layer:
                return layer[key]
        if key in self._deleted:
            raise KeyError(key)
        value = self.base[key]
        if type(value) in _ATOMIC or is_persistent(value):
            return value
        copied = copy.deepcopy(value, self._memo)
        if copied is not value:
            self._copies[key] = copied
        return copied

    def __setitem__(self, key: K, value: Any) -> None:
        if key in self.base and key not in self._deleted:
            self._copies.pop(key, None)
            self._written[key] = value
        else:
            self._added[key] = value

    def __delitem__(self, key: K) -> None:
        if key in self._added:
            del self._added[key]
        elif key in self.base and key not in self._deleted:
            self._copies.pop(key, None)
            self._written.pop(key, None)
            self._deleted.add(key)
        else:
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return key in self._added or (key in self.base and key not in self._deleted)

    def __iter__(self) -> Iterator[K]:
        if self._deleted:
            yield from (key for key in self.base if key not in self._deleted)
        else:
            yield from self.base
        yield from self._added

    def __reversed__(self) -> Iterator[K]:
        yield from reversed(self._added)
        yield from (key for key in reversed(self.base) if key not in self._deleted)

    def __len__(self) -> int:
        return len(self.base) - len(self._deleted) + len(self._added)

    def popitem(self) -> tuple[K, Any]:
        """Remove the last item and return it."""
        for key in reversed(self):
            return key, self.pop(key)
        raise KeyError("popitem(): dictionary is empty")

    def clear(self) -> None:
        """Remove all items."""
        self._copies.clear()
        self._written.clear()
        self._added.clear()
        self._deleted = set(self.base)

    # --- Changes

    def changes(self) -> tuple[dict[K, Any], list[K]]:
        """Return the items that were set, and the keys that were deleted before that."""
        changed = {key: value for key, value in self._copies.items() if self._differs(key)}
        changed.update(self._written)
        changed.update(self._added)
        return changed, list(self._deleted)

    def is_changed_in_place(self) -> bool:
        """Whether a value that was read has been changed."""
        return any(map(self._differs, self._copies))

    def read_all(self) -> None:
        """Copy all values that could be changed in place, by reading them."""
        for key in self:
            self[key]

    def _differs(self, key: K) -> bool:
        # A fresh copy is made in the same way as the other one, so sets have the same order.
        fresh = copy.deepcopy(self.base[key], {})
        return fingerprint(self._copies[key]) != fingerprint(fresh)

    def merged(self, changed: dict[K, Any], deleted: list[K]) -> dict[K, Any]:
        """Return a dictionary with the changes that `changes` returned."""
        merged = dict(self.base)
        for key in deleted:
            merged.pop(key, None)
        merged.update(changed)
        return merged

    # --- Savepoints

    def saved(self) -> tuple[Any, ...]:
        """Return a copy of the changes, for `restore`."""
        layers = (self._copies, self._written, self._deleted, self._added)
        return copy.deepcopy(layers, {})

    def restore(self, saved: tuple[Any, ...]) -> None:
        """Restore the changes that `saved` returned."""
        layers = copy.deepcopy(saved, {})
        self._copies, self._written, self._deleted, self._added = layers
        self._memo.clear()


def may_be_shared(memo: dict[int, Any]) -> bool:
    """Whether a value that was copied may share a part with another value.

    It does not if each part of the value has only the one reference that makes it a part. Then
    the values that were not copied need not be searched for it, which takes time in proportion
    to their size.
    """
    return _most_references(memo) > _OF_PARTS


def _most_references(memo: dict[int, Any]) -> int:
    # `deepcopy` keeps the objects it has copied in a list, which is one more reference.
    return max(map(sys.getrefcount, memo.get(id(memo), ())), default=0)


def _references_of_parts() -> int:
    memo: dict[int, Any] = {}
    holder: list[Any] = [[[], {}]]
    copied = copy.deepcopy(holder[0], memo)
    found = _most_references(memo)
    del copied
    return found


_OF_PARTS = _references_of_parts()


class _Fingerprints(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        known = is_persistent(obj) or isinstance(obj, (PersistentFile, PersistentStream))
        return id(obj) if known else None


def fingerprint(value: Any) -> bytes:
    """Return bytes that are equal for equal values of the same structure."""
    file = io.BytesIO()
    _Fingerprints(file, pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()
