"""Persistent classes that use features of Python classes."""

from __future__ import annotations

import functools
from typing import Any, Generic, TypeVar

from dobbin.persistent import Persistent, PersistentDict

T = TypeVar("T")


class Box(Persistent, Generic[T]):
    """A generic class."""

    def __init__(self, value: T) -> None:
        self.value = value


class Shelf(PersistentDict, Generic[T]):
    """A generic dictionary."""


class Cached(Persistent):
    """Caches a computed value."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.computed = [0]

    @functools.cached_property
    def double(self) -> int:
        return self.n * 2


class cached_property:  # noqa: N801 -- the usual name of such descriptors
    """Writes to the `__dict__` directly, like those of other packages."""

    def __init__(self, compute: Any) -> None:
        self._compute = compute
        self._name = compute.__name__

    def __get__(self, obj: Any, cls: Any = None) -> Any:
        if obj is None:
            return self
        return obj.__dict__.setdefault(self._name, self._compute(obj))


class CachedElsewhere(Persistent):
    """Has a descriptor of another package."""

    def __init__(self, n: int) -> None:
        self.n = n

    @cached_property
    def double(self) -> int:
        return self.n * 2


class Volatile(Persistent):
    """Has a slot that is not stored."""

    __slots__ = ("_v_slot", "slot")


class Validating(Persistent):
    """Overrides setting and deleting."""

    def __init__(self, **attributes: Any) -> None:
        for name, value in attributes.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "positive" and value < 0:
            raise ValueError(f"{value} is not positive")
        super().__setattr__(name, value * 2 if name == "doubled" else value)

    def __delattr__(self, name: str) -> None:
        if name == "kept":
            raise ValueError(f"{name} is kept")
        super().__delattr__(name)


class PastSuper(Persistent):
    """Calls the method of `object`, which Python allows."""

    __slots__ = ("slot",)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, [value])

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)

    def __getattribute__(self, name: str) -> Any:
        return object.__getattribute__(self, name)


class Tracing(Persistent):
    """Overrides reading."""

    label: str
    registered: list[type] = []  # noqa: RUF012 -- shared on purpose

    def __init_subclass__(cls, *, label: str, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.label = label
        Tracing.registered.append(cls)

    def __init__(self) -> None:
        self.tags = ["a"]
        self.n = 1

    def __getattribute__(self, name: str) -> Any:
        if name == "asked":
            return "answered"
        return super().__getattribute__(name)


class Traced(Tracing, label="traced"):
    """Inherits the method, and defines `__missing__`."""

    def __getattr__(self, name: str) -> Any:
        if name == "missing":
            return "found"
        raise AttributeError(name)


class Making(Persistent):
    """Creates instances of its own class."""

    def __init__(self, n: int = 0) -> None:
        self.n = n

    def another(self) -> Any:
        return type(self)(self.n + 1)

    @classmethod
    def made(cls) -> tuple[Any, Any]:
        return cls, cls(7)
