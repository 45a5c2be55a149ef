"""The storages of one status server, each with a unique name.

A server that has only ever had one storage omits its name from answers.
"""

import logging
import threading

from zc.zrs.status.observer import Observer

logger = logging.getLogger("zc.zrs.status")


class Storages:
    """The storages of a server, in the order in which they were opened."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._observers: dict[str, Observer] = {}
        self._opening = 0
        self._are_many = False

    def expect(self) -> None:
        """Count a storage that is being opened, until `expect_no_more`."""
        with self._lock:
            self._opening += 1
            self._are_many |= self._opening + len(self._observers) > 1

    def expect_no_more(self) -> None:
        """Stop counting it: it was added, or could not be opened."""
        with self._lock:
            self._opening -= 1

    def add(self, observer: Observer) -> None:
        """Add a storage; if its name is taken, it gets a number."""
        with self._lock:
            name, number = observer.storage, 1
            while name in self._observers:
                number += 1
                name = f"{observer.storage} #{number}"
            if number > 1:
                logger.warning(
                    "two storages have the name %r: %s is shown as %r in the status",
                    observer.storage,
                    observer.name,
                    name,
                )
            observer.storage = name
            self._observers[name] = observer
            self._are_many |= len(self._observers) > 1

    def remove(self, observer: Observer) -> None:
        """Remove a storage that is closed."""
        with self._lock:
            self._observers.pop(observer.storage, None)

    @property
    def are_many(self) -> bool:
        """Whether there has ever been more than one, so that all answers name the storage.

        This does not change when storages are closed, so that series of metrics keep their
        labels.
        """
        with self._lock:
            return self._are_many

    @property
    def opening(self) -> int:
        """The number of storages that are being opened."""
        with self._lock:
            return self._opening

    def all(self) -> list[Observer]:
        """Return the observers of all storages."""
        with self._lock:
            return list(self._observers.values())

    def named(self, name: str) -> Observer | None:
        """Return the observer of the storage with this name, or None if no storage has it."""
        with self._lock:
            return self._observers.get(name)
