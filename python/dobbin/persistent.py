"""Persistent objects: shared by all threads, read-only until they are checked out."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dobbin import _checkouts, _classes
from dobbin._checkouts import thread
from dobbin._classes import READ_ONLY, PersistentType, mixin, variants
from dobbin._files import PersistentFile
from dobbin._participants import participant_for
from dobbin._slots import COUNT, ITEMS, JAR, OID, SERIAL, Slots

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
    """An object that a database keeps.

    `_p_jar` is the database, `_p_oid` the object's number there, `_p_serial` the number of
    the transaction that wrote it last as far as this database has seen, None while the
    state is not in memory. A class may have a static method `_p_resolve_conflict`; see
    there.
    """

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make an object without state."""
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise TypeError(f"{cls.__name__}() takes no arguments")
        return fresh(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        raise RuntimeError(READ_ONLY)

    def __delattr__(self, name: str) -> None:
        raise RuntimeError(READ_ONLY)

    def __copy__(self) -> Any:
        """Return a new object with the same state, in no database."""
        checked_out = thread.checkouts.get(id(self))
        _ = self.__dict__  # brings a ghost's state
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
        raise TypeError("persistent objects are pickled by their database alone")


def fresh(cls: PersistentType) -> Any:
    """Make an object without state, in no database, of a class or a variant."""
    make: Any = object.__new__
    obj = make(cls)
    JAR.__set__(obj, None)
    OID.__set__(obj, None)
    SERIAL.__set__(obj, None)
    COUNT.__set__(obj, 0)
    ITEMS.__set__(obj, {} if variants(cls).has_items else None)
    return obj


@mixin
class Building:
    """What an object does while `__init__` runs."""

    __slots__ = ()
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__

    def __init_subclass__(cls) -> None:
        """Do nothing: a variant is no class that anybody wrote."""


@mixin
class Local:
    """What an object does while some thread has it checked out."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        """Do nothing: a variant is no class that anybody wrote."""

    def __getattribute__(self, name: str) -> Any:
        checked_out = thread.checkouts.get(id(self))
        if checked_out is None or (name[:3] == "_p_" and name != "_p_items"):
            return object.__getattribute__(self, name)
        if name == "_p_items":
            return checked_out.items
        cls = type(self)
        known = variants(cls)
        if name == "__class__":
            return known.shared
        if name not in known.descriptors:
            if name == "__dict__":
                return MappingProxyType(checked_out.merged()[0])
            attributes = checked_out.attributes
            if name in attributes:
                return attributes[name]
        try:
            # As object's, but past the shared attributes.
            return getattr(super(cls, self), name)
        except AttributeError as error:
            raise _no_attribute(known.shared, name, error) from None

    def __setattr__(self, name: str, value: Any) -> None:
        checked_out = _writable(self, name)
        if name in variants(type(self)).descriptors:
            object.__setattr__(self, name, value)
        else:
            checked_out.attributes[name] = value

    def __delattr__(self, name: str) -> None:
        checked_out = _writable(self, name)
        known = variants(type(self))
        if name in known.descriptors:
            object.__delattr__(self, name)
        elif name in checked_out.attributes:
            del checked_out.attributes[name]
        else:
            raise _no_attribute(known.shared, name, None)


def _writable(obj: Any, name: str) -> _checkouts.Checkout:
    checked_out = thread.checkouts.get(id(obj))
    if checked_out is None:
        raise RuntimeError(READ_ONLY)
    if name[:3] == "_p_" or name == "__dict__":
        raise AttributeError(f"{name} belongs to the database", name=name, obj=obj)
    return checked_out


def _no_attribute(cls: type, name: str, error: AttributeError | None) -> AttributeError:
    text = "" if error is None else str(error)
    if text and not text.startswith("'super' object"):
        return error  # type: ignore[return-value]  # raised by a property
    return AttributeError(f"{cls.__name__!r} object has no attribute {name!r}", name=name)


_KNOWN_OF_GHOSTS = frozenset(
    {"_p_jar", "_p_oid", "_p_serial", "_p_count", "__class__", "__deepcopy__"}
)


@mixin
class Ghost:
    """What an object does while its state is not in memory."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        """Do nothing: a variant is no class that anybody wrote."""

    def __getattribute__(self, name: str) -> Any:
        if name in _KNOWN_OF_GHOSTS:
            return object.__getattribute__(self, name)
        JAR.__get__(self)._load(self)
        return getattr(self, name)


class PersistentDict(Persistent, MutableMapping[Any, Any]):
    """A dictionary whose changes are stored as changes; its attributes are other things."""

    __slots__ = ()
    _p_is_dictionary = True
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _items(self).update(*args, **kwargs)

    @classmethod
    def fromkeys(cls, keys: Iterable[Any], value: Any = None) -> Any:
        """Make one with these keys, each with the same value."""
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
    """Return the items to be changed, a dictionary."""
    checked_out = thread.checkouts.get(id(obj))
    if checked_out is not None:
        return checked_out.items
    cls: type = type(obj)
    if variants(cls).building is cls:
        return ITEMS.__get__(obj)
    raise RuntimeError(READ_ONLY)


class Broken(PersistentDict):
    """An object whose class cannot be found; it can be read, not checked out."""

    __slots__ = ()


def checkout(obj: Persistent) -> None:
    """Give this thread its own state of an object until the transaction ends.

    Does nothing if it has one. Raises `TypeError` for what is not persistent, or broken.
    """
    if id(obj) in thread.checkouts:
        return
    if not _classes.is_persistent(obj):
        raise TypeError(f"not a persistent object: {obj!r}")
    cls = type(obj)
    if issubclass(cls, Broken):
        raise TypeError(f"the class of {object.__repr__(obj)} is missing")
    jar = JAR.__get__(obj)
    if variants(cls).building is cls:
        _classes.set_class(obj, variants(cls).shared)
    participant = participant_for(jar)
    while True:
        with _classes.transitions:
            if not _classes.is_ghost(obj):
                _checkouts.check_out(obj, participant)
                return
        jar._load(obj)


def retract(obj: Persistent) -> None:
    """Undo `checkout`, with what this thread has changed."""
    _checkouts.give_back(obj)
