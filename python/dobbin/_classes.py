"""The variants of persistent classes, and the state that threads share.

Each persistent class has three variants. They are subclasses with the same layout, so that an
object can change from one to another and keep its identity:

- *building*, while `__init__` runs: attributes can be set;
- *local*, while any context has the object checked out: the values that are read and written
  depend on the context;
- *ghost*, while the state is not in memory: any access loads it.

An object in its own class is shared: attributes are read as those of any Python object, at the
same speed, and cannot be set. Objects change their variant and their shared state under
`transitions`.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import os
import threading
import types
from typing import TYPE_CHECKING, Any, NamedTuple

from dobbin._slots import COUNT, ITEMS, JAR, OID, SERIAL, set_dict

if TYPE_CHECKING:
    from collections.abc import Iterator

READ_ONLY = "Can't set attribute in read-only mode."

transitions = threading.RLock()
# A process forks only while no other thread has the lock. The child deletes the data of the
# threads that it does not have before any of its hooks runs, which gives back their checkouts.
os.register_at_fork(
    before=transitions.acquire,
    after_in_parent=transitions.release,
    after_in_child=transitions._at_fork_reinit,  # type: ignore[attr-defined]  # noqa: SLF001 -- as CPython does
)


class PersistentType(abc.ABCMeta):
    """The metaclass of persistent classes: it lets `__init__` set attributes."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Return a new object."""
        cls = variants(cls).shared  # `type(obj)` may be another variant
        make: Any = cls.__new__
        obj: Any = make(cls, *args, **kwargs)
        if type(obj) is not cls:
            return obj
        if cls.__init__ is not object.__init__:
            building = variants(cls).building
            set_class(obj, building)
            try:
                obj.__init__(*args, **kwargs)
            finally:
                if type(obj) is building:
                    set_class(obj, cls)
        return obj

    def __subclasses__(cls) -> list[Any]:
        """Return the direct subclasses, without variants."""
        inherited: Any = super().__subclasses__()
        return [found for found in inherited if not _is_variant(found)]


class Variants(NamedTuple):
    """A class, its variants and its special attributes."""

    shared: PersistentType
    building: PersistentType
    local: PersistentType
    ghost: PersistentType
    slots: dict[str, types.MemberDescriptorType]
    """The attributes in slots instead of the `__dict__`, without those of `Slots`."""
    descriptors: frozenset[str]
    """Names of data descriptors, which take precedence over instance attributes."""
    cached: dict[str, Any]
    """The descriptors that cache a computed value in the `__dict__`; it is not stored."""
    has_items: bool
    """Whether the objects are dictionaries."""


# The methods of `Persistent`; a class with one of these has not overridden it.
plain_methods: set[Any] = set()
_set_class = object.__dict__["__class__"].__set__
_known: dict[type, Variants] = {}
_mixins: dict[str, type] = {}


def set_class(obj: Any, cls: type) -> None:
    """Set the variant of an object, past its own `__class__` attribute."""
    _set_class(obj, cls)


def mixin(cls: type) -> type:
    """Register the behavior of a variant: `Building`, `Local` or `Ghost`."""
    _mixins[cls.__name__] = cls
    return cls


def variants(cls: type) -> Variants:
    """Return a class's variants; `cls` may be one of them."""
    found = _known.get(cls)
    if found is None:
        with transitions:
            found = _known.get(cls) or _make_variants(cls)
    return found


def _make_variants(cls: Any) -> Variants:
    inherited = {
        name: value for base in cls.__mro__[::-1] for name, value in vars(base).items()
    }
    members = {
        name: value
        for base in cls.__mro__
        if isinstance(base, PersistentType)
        for name, value in vars(base).items()
        if isinstance(value, types.MemberDescriptorType) and not name.startswith("_p_")
    }
    descriptors = frozenset(
        name
        for name, value in inherited.items()
        if hasattr(type(value), "__set__") and name not in members and name != "__dict__"
    )
    cached = {name: value for name, value in inherited.items() if _is_cached(value)}
    made = {name: _variant(cls, base) for name, base in _mixins.items()}
    found = Variants(
        shared=cls,
        building=made["Building"],
        local=made["Local"],
        ghost=made["Ghost"],
        slots=members,
        descriptors=descriptors,
        cached=cached,
        has_items="_p_is_dictionary" in inherited,
    )
    _known.update(dict.fromkeys((cls, found.building, found.local, found.ghost), found))
    return found


def _is_cached(descriptor: object) -> bool:
    # Other packages have descriptors with the same name and purpose.
    return isinstance(descriptor, functools.cached_property) or any(
        cls.__name__ == "cached_property" for cls in type(descriptor).__mro__
    )


def _is_variant(cls: type) -> bool:
    known = _known.get(cls)
    return known is not None and known.shared is not cls


class _WithoutInitSubclass:
    """Keeps the `__init_subclass__` of a class from being called for its variants."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        """Do nothing: a variant is not a class of the application."""


def _variant(cls: PersistentType, base: Any) -> PersistentType:
    namespace = {
        "__slots__": (),
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__class__": property(lambda _self: cls),
    }
    # A class's own method takes precedence over that of the variant, which it calls through
    # super(). For setting and deleting, `Persistent` then does the variant's work.
    for name in "__setattr__", "__delattr__":
        method = getattr(cls, name)
        if method not in plain_methods and name in vars(base):
            namespace[name] = base._p_around(name, method)
    bases: tuple[Any, ...] = (_WithoutInitSubclass, base, cls)
    reads: Any = cls.__getattribute__
    if reads is not object.__getattribute__ and base._p_yields_reading:
        bases = (_WithoutInitSubclass, cls, base)
        namespace["__getattribute__"] = base._p_around("__getattribute__", reads)
        for name in "__setattr__", "__delattr__":
            namespace.setdefault(name, vars(base)[name])
    return type(cls)(cls.__name__, bases, namespace)


def fresh(cls: PersistentType) -> Any:
    """Return an object of a class or variant, without state and in no database."""
    make: Any = object.__new__
    obj = make(cls)
    JAR.__set__(obj, None)
    OID.__set__(obj, None)
    SERIAL.__set__(obj, None)
    COUNT.__set__(obj, 0)
    ITEMS.__set__(obj, {} if variants(cls).has_items else None)
    return obj


def shared_class(obj: Any) -> PersistentType:
    """Return the class of an object, not a variant."""
    return variants(type(obj)).shared


def is_ghost(obj: Any) -> bool:
    """Whether the state of an object is not in memory."""
    cls: type = type(obj)
    return variants(cls).ghost is cls


def is_persistent(obj: Any) -> bool:
    """Whether an object is persistent; does not load its state."""
    return isinstance(type(obj), PersistentType)


def attributes_of(obj: Any) -> dict[str, Any]:
    """Return the shared attributes that are stored; the result must not be changed."""
    attributes: dict[str, Any] = object.__getattribute__(obj, "__dict__")
    known = variants(type(obj))
    if known.slots:
        attributes = {**attributes, **dict(_filled(obj, known.slots))}
    return persistent_part(known, attributes)


def is_volatile(known: Variants, name: str) -> bool:
    """Whether an attribute is never stored."""
    return name[:3] == "_v_" or name in known.cached


def persistent_part(known: Variants, attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes that are stored."""
    # Values may be cached in a shared `__dict__` at any time, so then it is not iterated over.
    if not known.cached:
        for name in attributes:
            if name[:3] == "_v_":
                break
        else:
            return attributes
    return {
        name: value for name, value in list(attributes.items()) if not is_volatile(known, name)
    }


def set_volatile(obj: Any, name: str, value: Any) -> None:
    """Set an attribute that is not stored, in the state that all threads share."""
    with transitions:
        if name in variants(type(obj)).slots:
            object.__setattr__(obj, name, value)
        else:
            set_dict(obj, {**object.__getattribute__(obj, "__dict__"), name: value})


def delete_volatile(obj: Any, name: str) -> None:
    """Delete an attribute that is not stored, from the state that all threads share."""
    with transitions:
        if name in variants(type(obj)).slots:
            object.__delattr__(obj, name)
            return
        attributes = dict(object.__getattribute__(obj, "__dict__"))
        if name not in attributes:
            text = f"{shared_class(obj).__name__!r} object has no attribute {name!r}"
            raise AttributeError(text, name=name, obj=obj)
        del attributes[name]
        set_dict(obj, attributes)


def _filled(
    obj: Any, slots: dict[str, types.MemberDescriptorType]
) -> Iterator[tuple[str, Any]]:
    for name, member in slots.items():
        with contextlib.suppress(AttributeError):
            yield name, member.__get__(obj)


def set_attributes(obj: Any, attributes: dict[str, Any]) -> None:
    """Replace the shared attributes; a reader sees the old or the new value of each."""
    slots = variants(type(obj)).slots
    if slots:
        rest = {name: value for name, value in attributes.items() if name not in slots}
        for name, member in slots.items():
            if name in attributes:
                member.__set__(obj, attributes[name])
            elif name in dict(_filled(obj, slots)):
                member.__delete__(obj)
        attributes = rest
    set_dict(obj, attributes)
