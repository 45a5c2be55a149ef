"""The base class of primaries and secondaries, which act like the storage that they wrap.

A wrapper has every attribute that its storage has, and no other part of ZODB's storage
interfaces. It must not depend on replication.
"""

import os
from typing import Any

from zope.interface import directlyProvides, providedBy

from zc.zrs.storages.engine import open_file_storage


class StorageWrapper:
    """A storage that delegates to another whatever its class does not define.

    It provides the interfaces of the wrapped storage. Attributes of subclasses have names
    with two leading underscores, so that none hides an attribute of the storage.
    """

    def __init__(self, storage: Any) -> None:
        self.__storage = storage
        directlyProvides(self, providedBy(storage))

    def __getattr__(self, name: str) -> Any:
        # Before __init__ has run, the wrapper has no storage. Python's protocols (copying, pickling,
        # zope.interface) are not delegated to it.
        special = name.startswith("__") and name != "__name__"
        if special or name == "_StorageWrapper__storage":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.__storage, name)

    def __setattr__(self, name: str, value: Any) -> None:
        # Set on the storage too: ZEO, for example, replaces tryToResolveConflict.
        if name.startswith("_") or hasattr(type(self), name):
            super().__setattr__(name, value)
        elif hasattr(self.__storage, name):
            setattr(self.__storage, name, value)
        else:
            super().__setattr__(name, value)

    def __len__(self) -> int:
        return len(self.__storage)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__} of {self.__storage!r}>"


def unwrapped(storage: Any) -> Any:
    """Return the storage inside all wrappers."""
    while isinstance(storage, StorageWrapper):
        storage = storage._StorageWrapper__storage  # noqa: SLF001 -- of this class
    return storage


def open_storage(storage_or_path: Any) -> tuple[Any, bool]:
    """Return the storage, and whether this function has opened it from a path."""
    if isinstance(storage_or_path, str | os.PathLike):
        return open_file_storage(os.fspath(storage_or_path)), True
    return storage_or_path, False


def check_choice(option: str, value: str, *choices: str) -> None:
    """Raise `ValueError` for an invalid value of an option."""
    if value not in choices:
        raise ValueError(f"{option} must be {' or '.join(map(repr, choices))}, not {value!r}")


def wrap_or_close(storage: Any, wrapper: Any, *args: Any, **options: Any) -> Any:
    """Return ``wrapper(storage, ...)``; close the storage if that fails."""
    try:
        return wrapper(storage, *args, **options)
    except BaseException:
        storage.close()
        raise
