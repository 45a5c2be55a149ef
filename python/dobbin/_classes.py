"""The classes that an object goes through, and its state while all threads share it.

Each persistent class has three variants, subclasses that add nothing to the layout, so
that an object can change from one to another and keep its identity:

- *building*, while `__init__` runs: attributes can be set;
- *local*, while a thread has the object checked out: what is read and written depends on
  the thread;
- *ghost*, while the state is not in memory: any access brings it there.

An object in its own class is shared: attributes are read as Python reads them, at Python's
speed, and cannot be set. Changes from one to another, and of shared state, happen under
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

from dobbin._slots import set_dict

if TYPE_CHECKING:
    from collections.abc import Iterator

READ_ONLY = "Can't set attribute in read-only mode."

transitions = threading.RLock()
# A process forks while no other thread has the lock: the data of threads that a child does not
# have are dropped before any hook of the child runs, and that gives back checkouts.
os.register_at_fork(
    before=transitions.acquire,
    after_in_parent=transitions.release,
    after_in_child=transitions._at_fork_reinit,  # type: ignore[attr-defined]
)


class PersistentType(abc.ABCMeta):
    """The class of persistent classes: lets `__init__` set attributes."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make an object."""
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
        """Return the classes that inherit from this one, without variants."""
        inherited: Any = super().__subclasses__()
        return [found for found in inherited if not _is_variant(found)]


class Variants(NamedTuple):
    """A class and what belongs to it."""

    shared: PersistentType
    building: PersistentType
    local: PersistentType
    ghost: PersistentType
    slots: dict[str, types.MemberDescriptorType]
    """The attributes that are slots, not in the `__dict__`; ours are not among them."""
    descriptors: frozenset[str]
    """The names whose descriptors have a say before an object's own attributes."""
    cached: dict[str, Any]
    """The descriptors that keep a computed value in the `__dict__`; it is not stored."""
    has_items: bool
    """Whether the objects are dictionaries."""


# What `Persistent` has, in which case a class has no such method of its own.
plain_methods: set[Any] = set()
_set_class = object.__dict__["__class__"].__set__
_known: dict[type, Variants] = {}
_mixins: dict[str, type] = {}


def set_class(obj: Any, cls: type) -> None:
    """Give an object another variant, whatever it says its class is."""
    _set_class(obj, cls)


def mixin(cls: type) -> type:
    """Let a class say what a variant does: `Building`, `Local` or `Ghost`."""
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
    # Other packages have descriptors of this name that do the same.
    return isinstance(descriptor, functools.cached_property) or any(
        cls.__name__ == "cached_property" for cls in type(descriptor).__mro__
    )


def _is_variant(cls: type) -> bool:
    known = _known.get(cls)
    return known is not None and known.shared is not cls


class _Quiet:
    """Lets a variant be made without the `__init_subclass__` of the class."""

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
    # A method of the class itself comes before that of the variant, which it reaches through
    # super(): for what is set and deleted, `Persistent` does what the variant would.
    for name in "__setattr__", "__delattr__":
        method = getattr(cls, name)
        if method not in plain_methods and name in vars(base):
            namespace[name] = base._p_around(name, method)
    bases: tuple[Any, ...] = (_Quiet, base, cls)
    reads: Any = cls.__getattribute__
    if reads is not object.__getattribute__ and base._p_yields_reading:
        bases = (_Quiet, cls, base)
        namespace["__getattribute__"] = base._p_around("__getattribute__", reads)
        for name in "__setattr__", "__delattr__":
            namespace.setdefault(name, vars(base)[name])
    return type(cls)(cls.__name__, bases, namespace)


def shared_class(obj: Any) -> PersistentType:
    """Return an object's own class."""
    return variants(type(obj)).shared


def is_ghost(obj: Any) -> bool:
    """Whether an object's state is not in memory."""
    cls: type = type(obj)
    return variants(cls).ghost is cls


def is_persistent(obj: Any) -> bool:
    """Whether something is a persistent object; does not bring its state to memory."""
    return isinstance(type(obj), PersistentType)


def attributes_of(obj: Any) -> dict[str, Any]:
    """Return the shared attributes that are stored, not to be changed."""
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
    # Cached values are put into a shared `__dict__` at any time: then it is not iterated over.
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
    """Set an attribute that is not stored in the state that all threads share."""
    with transitions:
        if name in variants(type(obj)).slots:
            object.__setattr__(obj, name, value)
        else:
            set_dict(obj, {**object.__getattribute__(obj, "__dict__"), name: value})


def delete_volatile(obj: Any, name: str) -> None:
    """Delete an attribute that is not stored from the state that all threads share."""
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
    """Replace the shared attributes; who reads one sees it before or after."""
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
