"""The names of ZODB's tests, which before ZODB 6 begin with ``check``, not ``test``."""

from __future__ import annotations

from typing import TypeVar

C = TypeVar("C", bound=type)

OLD_PREFIX = "check"
PREFIX = "test"


def zodb_tests(cls: type) -> set[str]:
    """Return the tests of one of ZODB's classes by their names for pytest."""
    return {new_name(name) for name in dir(cls) if is_test(cls, name)}


def is_test(cls: type, name: str) -> bool:
    """Return whether an attribute is a test; some ``check`` methods are not."""
    return name.startswith((PREFIX, OLD_PREFIX)) and callable(getattr(cls, name))


def new_name(name: str) -> str:
    """Return a test's name as of ZODB 6."""
    return PREFIX + name.removeprefix(OLD_PREFIX) if name.startswith(OLD_PREFIX) else name


def collectable(cls: C) -> C:
    """Make pytest collect ZODB's tests with old names too."""
    for name in dir(cls):
        if (
            name.startswith(OLD_PREFIX)
            and is_test(cls, name)
            and new_name(name) not in vars(cls)
        ):
            setattr(cls, new_name(name), getattr(cls, name))
    return cls
