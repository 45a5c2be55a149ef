"""Pickles as written by Python 2's cPickle, and records as written by ZODB 3.8.

The documents print the lengths and digests of records written in 2007, so each byte counts:
strings are byte strings, dictionaries have Python 2's order, and cPickle memoizes less than its
successors. Only the types in the documents are supported; others raise `TypeError`.
"""

from __future__ import annotations

import io
import pickle
import struct
from typing import TYPE_CHECKING, Any

from persistent.mapping import PersistentMapping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_WORD = (1 << 64) - 1
_BATCH = 1000  # cPickle writes larger dictionaries in pieces

Z64 = bytes(8)


class PersistentDict(PersistentMapping):  # type: ignore[misc]
    """The class of 2007, which was not an alias of `PersistentMapping` yet."""

    __module__ = "persistent.dict"


class Python2Pickler:
    """Writes objects with protocol 1, as cPickle did.

    `persistent_id` returns an object's reference, or None to pickle the object itself.
    A `fast` pickler has no memo.
    """

    def __init__(
        self, persistent_id: Callable[[Any], Any] | None = None, *, fast: bool = False
    ) -> None:
        self._persistent_id = persistent_id
        self._fast = fast
        # References the objects too, so that ids are not reused.
        self._memo: dict[int, tuple[int, Any]] = {}

    def dump(self, obj: object) -> bytes:
        """Return the pickle of an object; the memo is kept for the next."""
        return self._save(obj) + pickle.STOP

    def _save(self, obj: object) -> bytes:
        if self._persistent_id is not None:
            reference = self._persistent_id(obj)
            if reference is not None:
                return Python2Pickler._save_plain(self, reference) + pickle.BINPERSID
        return self._save_plain(obj)

    def _save_plain(self, obj: object) -> bytes:
        if obj is None:
            return pickle.NONE
        if id(obj) in self._memo:
            return pickle.BINGET + bytes([self._memo[id(obj)][0]])
        if isinstance(obj, str | bytes):
            return self._save_string(obj)
        if isinstance(obj, type):
            name = f"{obj.__module__}\n{obj.__name__}\n".encode("ascii")
            return pickle.GLOBAL + name + self._put(obj)
        if isinstance(obj, tuple):
            return self._save_tuple(obj)
        if type(obj) is dict:
            return self._save_dict(obj)
        raise TypeError(f"the documents store nothing like {obj!r}")

    def _save_string(self, obj: str | bytes) -> bytes:
        data = obj.encode("latin-1") if isinstance(obj, str) else bytes(obj)
        if len(data) < 256:
            saved = pickle.SHORT_BINSTRING + bytes([len(data)]) + data
        else:
            saved = pickle.BINSTRING + struct.pack("<i", len(data)) + data
        # cPickle does not memoize single characters.
        return saved + self._put(obj) if len(data) > 1 else saved

    def _save_tuple(self, items: tuple[Any, ...]) -> bytes:
        # cPickle does not memoize an object without other references, such as the tuples that
        # ZODB makes for it: class and arguments, oid and class.
        if not items:
            return pickle.EMPTY_TUPLE
        return pickle.MARK + b"".join(map(self._save, items)) + pickle.TUPLE

    def _save_dict(self, mapping: dict[Any, Any]) -> bytes:
        if len(mapping) > _BATCH:
            raise TypeError("the documents store no large dictionaries")
        saved = pickle.EMPTY_DICT + self._put(mapping)
        items = b"".join(
            self._save(key) + self._save(mapping[key]) for key in python2_order(mapping)
        )
        if len(mapping) == 1:
            return saved + items + pickle.SETITEM
        return saved + pickle.MARK + items + pickle.SETITEMS if mapping else saved

    def _put(self, obj: object) -> bytes:
        if self._fast:
            return b""
        number = len(self._memo) + 1
        self._memo[id(obj)] = number, obj
        return pickle.BINPUT + bytes([number])


def python2_hash(string: str) -> int:
    """Return Python 2's hash of a byte string as an unsigned word."""
    data = string.encode("latin-1")
    if not data:
        return 0
    value = data[0] << 7
    for byte in data:
        value = (1000003 * value & _WORD) ^ byte
    return value ^ len(data)


def python2_order(keys: Iterable[str]) -> list[str]:
    """Return strings in the order of a Python 2 dictionary.

    `keys` are in the order of their insertion.
    """
    table: list[str | None] = [None] * 8
    for used, key in enumerate(keys, 1):
        _insert(table, key)
        if used * 3 >= len(table) * 2:
            size = 8
            while size <= used * 4:
                size *= 2
            old, table = table, [None] * size
            for moved in old:
                if moved is not None:
                    _insert(table, moved)
    return [key for key in table if key is not None]


def _insert(table: list[str | None], key: str) -> None:
    perturb = slot = python2_hash(key)
    slot %= len(table)
    while table[slot % len(table)] is not None:
        slot = 5 * slot + perturb + 1 & _WORD
        perturb >>= 5
    table[slot % len(table)] = key


def serialize(writer: Any, obj: Any) -> bytes:
    """Return an object's record, as ZODB 3.8 wrote it.

    It replaces the `serialize` method of `writer`, a `ZODB.serialize.ObjectWriter`.
    """
    metadata: object = type(obj)
    if obj._p_oid == Z64 and obj._p_serial == Z64:
        # The first record of a root was written by the database itself.
        metadata = metadata, None
    state = obj.__getstate__()
    if type(obj) is PersistentMapping:
        state = {"_container" if key == "data" else key: state[key] for key in state}
    pickler = Python2Pickler(writer.persistent_id)
    return pickler.dump(metadata) + pickler.dump(state)


class HeaderUnpickler(pickle.Unpickler):
    """Reads header pickles of Python 2; strings are bytes, and there are no classes."""

    def find_class(self, module: str, name: str, /) -> Any:
        """Raise, because a header has no globals."""
        raise pickle.UnpicklingError(f"{module}.{name} in a header of Python 2's")


def load_header(message: bytes) -> Any:
    """Return the value of a header message."""
    return HeaderUnpickler(io.BytesIO(message), encoding="bytes").load()


def dump_header(header: object) -> bytes:
    """Return a header message as a primary of 2007 pickled it."""
    return Python2Pickler(fast=True).dump(header)
