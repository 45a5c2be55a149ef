"""Opening primaries and secondaries, all of which a test's end closes."""

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
    """Whatever is to be closed in the end."""

    def close(self) -> object: ...


T = TypeVar("T", bound=Closable)

LOOPBACK = ("127.0.0.1", 0)
RECONNECT_DELAY = 0.2
CLOSE_DEADLINE = 2.0


def tcp_address(primary: Primary) -> tuple[str, int]:
    """Return the host and the port of a primary that listens on TCP."""
    assert isinstance(primary.address, tuple)
    return primary.address


class Opener:
    """Opens storages in a directory, and closes them, the last one first."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stack = contextlib.ExitStack()

    @property
    def path(self) -> Path:
        """The primary's Data.fs, unless another is asked for."""
        return self.directory / "primary.fs"

    @property
    def copy(self) -> Path:
        """The secondary's Data.fs, unless another is asked for."""
        return self.directory / "secondary.fs"

    def primary(
        self, storage_or_path: Any = None, addr: Address = LOOPBACK, **options: Any
    ) -> Primary:
        """Open a primary that does not wait long for those who do not read."""
        options.setdefault("close_deadline", CLOSE_DEADLINE)
        storage = str(self.path) if storage_or_path is None else storage_or_path
        return self.closing(Primary(storage, addr, **options))

    def secondary(self, primary: Any, storage_or_path: Any = None, **options: Any) -> Secondary:
        """Open a secondary that tries again soon; `primary` is one, or an address."""
        options.setdefault("reconnect_delay", RECONNECT_DELAY)
        storage = str(self.copy) if storage_or_path is None else storage_or_path
        address = primary.address if isinstance(primary, Primary) else primary
        return self.closing(Secondary(storage, address, **options))

    def client(self, primary: Primary, start: bytes = ZERO_TID, **options: Any) -> Client:
        """Connect a client of our own."""
        return self.closing(Client(primary.address, start, **options))

    def closing(self, storage: T) -> T:
        """Return the storage; it will be closed."""
        self._stack.callback(storage.close)
        return storage

    def close(self) -> None:
        """Close what was opened."""
        self._stack.close()
