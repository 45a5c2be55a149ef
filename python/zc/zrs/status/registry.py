"""Registry of the primaries and secondaries that are open in this process.

It does not contain closed or deleted storages, nor a primary that a secondary wraps, whose
status is part of the secondary's.
"""

import threading
import weakref
from typing import Any

from zc.zrs.status.observer import Observer
from zc.zrs.status.schema import Status
from zc.zrs.status.states import Role
from zc.zrs.system.process import Owner

_lock = threading.Lock()
_opened: "weakref.WeakKeyDictionary[Any, tuple[Owner, Observer]]" = weakref.WeakKeyDictionary()


def register(
    storage: Any,
    role: Role,
    file_name: str,
    *,
    name: str | None = None,
    instead_of: Any = None,
) -> None:
    """Add a storage that was opened.

    :param file_name: the storage's own name
    :param name: the given name, if any
    :param instead_of: the registered storage that it wraps, if any
    """
    # The observer must not keep the storage alive.
    status = weakref.WeakMethod(storage.status)

    def current_status() -> Status:
        method = status()
        if method is None:
            raise ReferenceError("the storage is closed")
        found: Status = method()
        return found

    observer = Observer(current_status, role, file_name, storage=name)
    with _lock:
        if instead_of is not None:
            _opened.pop(instead_of, None)
        _opened[storage] = Owner(), observer


def unregister(storage: Any) -> None:
    """Remove a storage that is closed."""
    with _lock:
        _opened.pop(storage, None)


def observers() -> list[Observer]:
    """Return the observers of the open storages, sorted by name."""
    with _lock:
        here = [seen for owner, seen in _opened.values() if owner.is_this_process()]
    return sorted(here, key=lambda seen: seen.storage)
