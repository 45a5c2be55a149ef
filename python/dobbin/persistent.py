"""Persistent objects: shared by all threads, read-only until they are checked out."""

from __future__ import annotations

import functools
from collections.abc import Mapping, MutableMapping
from types import MethodType
from typing import TYPE_CHECKING, Any

from dobbin import _checkouts, _classes
from dobbin._classes import (
    READ_ONLY,
    PersistentType,
    fresh,
    is_volatile,
    mixin,
    variants,
)
from dobbin._contexts import checkout_of
from dobbin._files import PersistentFile
from dobbin._participants import participant_for
from dobbin._slots import ITEMS, Slots, store_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Self

__all__ = [
    "Broken",
    "Persistent",
    "PersistentDict",
    "PersistentFile",
    "checkout",
    "retract",
]


class Persistent(Slots, metaclass=PersistentType):
    """An object that can be stored in a database.

    `_p_jar` is the database and `_p_oid` the object's number there. `_p_serial` is the number
    of the last transaction seen by the database that wrote the object, None while its state is
    not in memory. A class may define the static method `_p_resolve_conflict`.

    Attributes whose names begin with ``_v_``, and the values of `functools.cached_property`,
    are volatile: they can be set without a checkout, are not stored, and are lost when the
    object changes. While the object is checked out, no other thread sees volatile attributes
    that are set.

    A class may override `__setattr__`, `__delattr__` and `__getattribute__`; these have to
    call ``super()``, not `object`.
    """

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Return an object without state."""
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise TypeError(f"{cls.__name__}() takes no arguments")
        return fresh(variants(cls).shared)

    def __setattr__(self, name: str, value: Any) -> None:
        cls: type = type(self)
        if cls is variants(cls).building:
            object.__setattr__(self, name, value)
        else:
            _set(self, name, value)

    def __delattr__(self, name: str) -> None:
        cls: type = type(self)
        if cls is variants(cls).building:
            object.__delattr__(self, name)
        else:
            _delete(self, name)

    def __copy__(self) -> Any:
        """Return a new object with the same state, in no database."""
        checked_out = checkout_of(self)
        _ = self.__dict__  # loads the state of a ghost
        state = checked_out.merged() if checked_out else (_classes.attributes_of(self), None)
        twin = fresh(variants(type(self)).shared)
        _classes.set_attributes(twin, dict(state[0]))
        if variants(type(self)).has_items:
            ITEMS.__set__(twin, dict(self._p_items))
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return the object itself: persistent objects are referred to, not copied."""
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("persistent objects can only be pickled by their database")


_classes.plain_methods.update((Persistent.__setattr__, Persistent.__delattr__))


def _set(obj: Any, name: str, value: Any) -> None:
    """Set an attribute of an object whose `__init__` has ended."""
    known = variants(type(obj))
    checked_out = checkout_of(obj)
    if checked_out is None:
        _check_volatile(obj, known, name)
        _classes.set_volatile(obj, name, value)
        return
    if name[:1] == "_":
        _check_name(obj, name)
    if name in known.descriptors:
        object.__setattr__(obj, name, value)
    elif name in known.cached or name[:3] == "_v_":
        checked_out.volatile[name] = value
    else:
        checked_out.attributes[name] = value


def _delete(obj: Any, name: str) -> None:
    """Delete an attribute of an object whose `__init__` has ended."""
    known = variants(type(obj))
    checked_out = checkout_of(obj)
    if checked_out is None:
        _check_volatile(obj, known, name)
        _classes.delete_volatile(obj, name)
        return
    _check_name(obj, name)
    if name in known.descriptors:
        object.__delattr__(obj, name)
    elif name in checked_out.volatile:
        del checked_out.volatile[name]
    elif name in checked_out.attributes:
        del checked_out.attributes[name]
    else:
        raise _no_attribute(known.shared, name, None)


def _check_volatile(obj: Any, known: _classes.Variants, name: str) -> None:
    if name == "__orig_class__":
        # Class[int](...) tries to set this, and ignores an `AttributeError`.
        raise AttributeError(READ_ONLY, name=name, obj=obj)
    if not is_volatile(known, name) or name in known.descriptors:
        raise RuntimeError(READ_ONLY)
    if type(obj) is known.ghost:
        store_of(obj).load(obj)


def _check_name(obj: Any, name: str) -> None:
    if name[:3] == "_p_" or name in {"__dict__", "__orig_class__"}:
        raise AttributeError(f"{name} belongs to the database", name=name, obj=obj)


class _Variant:
    """The base class of all variants."""

    __slots__ = ()
    _p_yields_reading = False  # whether a class's own `__getattribute__` takes precedence

    @staticmethod
    def _p_around(_name: str, method: Any) -> Any:
        """Return the wrapper of a method that a class defines itself."""
        return method


@mixin
class Building(_Variant):
    """The behavior of an object while `__init__` runs."""

    __slots__ = ()
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__


@mixin
class Local(_Variant):
    """The behavior of an object while any context has it checked out."""

    __slots__ = ()
    __setattr__ = _set
    __delattr__ = _delete
    _p_yields_reading = True

    @staticmethod
    def _p_around(name: str, method: Any) -> Any:
        """Return the wrapper of a method that a class defines itself."""
        if name == "__getattribute__":
            return _own_values(method)
        return _own_changes(method)

    def __getattribute__(self, name: str) -> Any:
        checked_out = checkout_of(self)
        if checked_out is None or (name[:3] == "_p_" and name != "_p_items"):
            return object.__getattribute__(self, name)
        if name == "_p_items":
            return checked_out.items
        known = variants(type(self))
        if name not in known.descriptors:
            if name in checked_out.attributes:
                return checked_out.attributes[name]
            if name in checked_out.volatile:
                return checked_out.volatile[name]
            if name == "__dict__":
                return Attributes(checked_out, known)
        return known.shared if name == "__class__" else _of_class(self, known, name)


def _of_class(obj: Any, known: _classes.Variants, name: str) -> Any:
    """Return an attribute like `object.__getattribute__`, without the shared values."""
    cached = known.cached.get(name)
    if isinstance(cached, functools.cached_property):
        value = cached.func(obj)
        obj.__dict__[name] = value
        return value
    cls = type(obj)
    try:
        found = getattr(super(cls, obj), name)
    except AttributeError as error:
        raise _no_attribute(known.shared, name, error) from None
    if type(found) is MethodType and found.__self__ is cls:
        return MethodType(found.__func__, known.shared)
    return found


class Attributes(dict[str, Any]):
    """The `__dict__` of a checked-out object: values can be changed in place, but not set.

    Descriptors can cache their computed values in it.
    """

    def __init__(self, checked_out: _checkouts.Checkout, known: _classes.Variants) -> None:
        super().__init__(checked_out.attributes, **checked_out.volatile)
        self._volatile = checked_out.volatile
        self._known = known

    def _refuse(self, *_: object, **__: object) -> Any:
        raise TypeError("attributes of a persistent object are set with setattr()")

    def __setitem__(self, name: str, value: Any) -> None:
        if not is_volatile(self._known, name):
            self._refuse()
        super().__setitem__(name, value)
        self._volatile[name] = value

    def __delitem__(self, name: str) -> None:
        if name not in self._volatile:
            self._refuse()
        super().__delitem__(name)
        del self._volatile[name]

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return a value; a missing volatile one is set to the default first."""
        if name not in self:
            self[name] = default
        return self[name]

    def pop(self, name: str, *default: Any) -> Any:
        """Remove a volatile value and return it."""
        if name not in self._volatile:
            return default[0] if default and name not in self else self._refuse()
        del self._volatile[name]
        return super().pop(name)

    clear = popitem = update = __ior__ = _refuse


def _own_changes(method: Any) -> Any:
    """Let a class's own `__setattr__` or `__delattr__` change a checked-out object.

    A method that calls the one of `object` instead of super()'s changes the state that all
    threads share. Its changes are moved to the checkout.
    """

    @functools.wraps(method)
    def change(self: Any, name: str, *value: Any) -> None:
        checked_out = checkout_of(self)
        before = dict(_classes.attributes_of(self))
        try:
            method(self, name, *value)
        finally:
            if checked_out is not None:
                _move_changes(self, before, checked_out)

    return change


def _move_changes(obj: Any, before: dict[str, Any], checked_out: _checkouts.Checkout) -> None:
    after = dict(_classes.attributes_of(obj))
    for name in {**before, **after}:
        if name in before and after.get(name, before) is before[name]:
            continue
        if name in before:
            object.__setattr__(obj, name, before[name])
        else:
            object.__delattr__(obj, name)
        if name in after:
            checked_out.attributes[name] = after[name]
        else:
            checked_out.attributes.pop(name, None)


def _own_values(method: Any) -> Any:
    """Let a class's own `__getattribute__` read a checked-out object.

    A method that calls the one of `object` instead of super()'s finds the value that all
    threads share. The value of the checkout is returned instead.
    """

    @functools.wraps(method)
    def read(self: Any, name: str) -> Any:
        value = method(self, name)
        checked_out = checkout_of(self)
        if checked_out is None or name[:2] == "__" or name[:3] == "_p_":
            return value
        shared = _classes.attributes_of(self)
        if name in shared and value is shared[name]:
            return Local.__getattribute__(self, name)
        return value

    return read


def _no_attribute(cls: type, name: str, error: AttributeError | None) -> AttributeError:
    text = "" if error is None else str(error)
    if text and not text.startswith("'super' object"):
        return error  # type: ignore[return-value]  # raised by a property
    return AttributeError(f"{cls.__name__!r} object has no attribute {name!r}", name=name)


_AVAILABLE_IN_GHOSTS = frozenset(
    {"_p_jar", "_p_oid", "_p_serial", "_p_count", "__class__", "__deepcopy__"}
)


@mixin
class Ghost(_Variant):
    """The behavior of an object while its state is not in memory."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name in _AVAILABLE_IN_GHOSTS:
            return object.__getattribute__(self, name)
        store_of(self).load(self)
        return getattr(self, name)


class PersistentDict(Persistent, MutableMapping[Any, Any]):
    """A dictionary of which only the changed items are stored; it can have attributes too."""

    __slots__ = ()
    _p_is_dictionary = True
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _items(self).update(*args, **kwargs)

    @classmethod
    def fromkeys(cls, keys: Iterable[Any], value: Any = None) -> Any:
        """Return a new dictionary with these keys and one value for all."""
        return cls(dict.fromkeys(keys, value))

    def __getitem__(self, key: Any) -> Any:
        items = self._p_items
        try:
            return items[key]
        except KeyError:
            if missing := getattr(type(self), "__missing__", None):
                return missing(self, key)
            raise

    def __setitem__(self, key: Any, value: Any) -> None:
        _items(self)[key] = value

    def __delitem__(self, key: Any) -> None:
        del _items(self)[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._p_items)

    def __reversed__(self) -> Iterator[Any]:
        backwards: Iterator[Any] = reversed(self._p_items)
        return backwards

    def __len__(self) -> int:
        return len(self._p_items)

    def __contains__(self, key: object) -> bool:
        return key in self._p_items

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key, or the default."""
        return self._p_items.get(key, default)

    def clear(self) -> None:
        """Remove all items."""
        _items(self).clear()

    def popitem(self) -> tuple[Any, Any]:
        """Remove the last item and return it."""
        item: tuple[Any, Any] = _items(self).popitem()
        return item

    def copy(self) -> Any:
        """Return a new object with the same items and attributes, in no database."""
        return self.__copy__()

    def __or__(self, other: Any) -> Any:
        if not isinstance(other, Mapping):
            return NotImplemented
        return {**self, **other}

    def __ror__(self, other: Any) -> Any:
        if not isinstance(other, Mapping):
            return NotImplemented
        return {**other, **self}

    def __ior__(self, other: Any) -> Self:
        _items(self).update(other)
        return self


def _items(obj: Any) -> Any:
    """Return the items as a dictionary that may be changed."""
    checked_out = checkout_of(obj)
    if checked_out is not None:
        return checked_out.items
    cls: type = type(obj)
    if variants(cls).building is cls:
        return ITEMS.__get__(obj)
    raise RuntimeError(READ_ONLY)


class Broken(PersistentDict):
    """An object whose class cannot be found; it can be read but not checked out."""

    __slots__ = ()


def checkout(obj: Persistent) -> None:
    """Give this thread a private state of an object until the transaction ends.

    Does nothing if it has one. Raises `TypeError` if the object is broken or not persistent.
    """
    if not _classes.is_persistent(obj):
        raise TypeError(f"not a persistent object: {obj!r}")
    if checkout_of(obj) is not None:
        return
    cls = type(obj)
    if issubclass(cls, Broken):
        raise TypeError(f"the class of {object.__repr__(obj)} cannot be imported")
    store = store_of(obj)
    if variants(cls).building is cls:
        _classes.set_class(obj, variants(cls).shared)
    participant = participant_for(store)
    while True:
        with _classes.transitions:
            if not _classes.is_ghost(obj):
                _checkouts.check_out(obj, participant)
                return
        store.load(obj)


def retract(obj: Persistent) -> None:
    """Undo `checkout`, and discard the changes made since."""
    checked_out = checkout_of(obj)
    if checked_out is not None:
        _checkouts.give_back(checked_out)
