"""Opening primaries and secondaries, which are closed at the end of a test."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from replicas.client import ZERO_TID, Client
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary

if TYPE_CHECKING:
    from pathlib import Path

    from zc.zrs.system.address import Address


class Closable(Protocol):
    """An object that is closed at the end of a test."""

    def close(self) -> object: ...


T = TypeVar("T", bound=Closable)

LOOPBACK = ("127.0.0.1", 0)
RECONNECT_DELAY = 0.2
CLOSE_DEADLINE = 2.0


def tcp_address(primary: Primary) -> tuple[str, int]:
    """Return host and port of a primary that listens on TCP."""
    assert isinstance(primary.address, tuple)
    return primary.address


class Opener:
    """Opens storages in a directory, and closes them in reverse order."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stack = contextlib.ExitStack()

    @property
    def path(self) -> Path:
        """The primary's Data.fs by default."""
        return self.directory / "primary.fs"

    @property
    def copy(self) -> Path:
        """The secondary's Data.fs by default."""
        return self.directory / "secondary.fs"

    def primary(
        self, storage_or_path: Any = None, addr: Address = LOOPBACK, **options: Any
    ) -> Primary:
        """Open a primary that does not wait long for peers that do not read."""
        options.setdefault("close_deadline", CLOSE_DEADLINE)
        storage = str(self.path) if storage_or_path is None else storage_or_path
        return self.closing(Primary(storage, addr, **options))

    def secondary(self, primary: Any, storage_or_path: Any = None, **options: Any) -> Secondary:
        """Open a secondary that reconnects soon; `primary` is a primary or an address."""
        options.setdefault("reconnect_delay", RECONNECT_DELAY)
        storage = str(self.copy) if storage_or_path is None else storage_or_path
        address = primary.address if isinstance(primary, Primary) else primary
        return self.closing(Secondary(storage, address, **options))

    def client(self, primary: Primary, start: bytes = ZERO_TID, **options: Any) -> Client:
        """Connect a test client."""
        return self.closing(Client(primary.address, start, **options))

    def closing(self, storage: T) -> T:
        """Register a storage to be closed, and return it."""
        self._stack.callback(storage.close)
        return storage

    def close(self) -> None:
        """Close everything that was opened."""
        self._stack.close()
