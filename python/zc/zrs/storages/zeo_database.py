"""Notification of databases and ZEO servers of replicated changes.

A ZEO server is notified through its `StorageServerDB`. Its code is written for changes that its
own clients commit, in its own thread. Those of a secondary come from another thread, at any
time. Without this module, three kinds of invalidations would be lost:

- those committed during the server's setup, after it has read the storage's last invalidations
  and before it registers: `catch_up`;
- those committed before the setup is complete, which would raise a `KeyError`;
- that of a client which comes, in the server's list of clients, after one that disconnects
  during the iteration.

This module must not depend on replication.
"""

from collections.abc import Iterable
from typing import Any

from ZODB.utils import p64, u64, z64


class Database:
    """A `ZODB.DB`'s storage adapter, or another object that accepts invalidations."""

    def __init__(self, database: Any) -> None:
        self._database = database

    def __str__(self) -> str:
        return f"the registered database {self._database!r}"

    def catch_up(self, storage: Any) -> None:
        """Report the transactions committed since the database has read the storage."""

    def invalidate(self, tid: bytes, oids: Iterable[bytes]) -> None:
        """Report that the transaction `tid` changes the objects `oids`."""
        self._database.invalidate(tid, oids)


class ZEODatabase(Database):
    """A ZEO server's `StorageServerDB`."""

    def catch_up(self, storage: Any) -> None:
        """Complete the server's queue of invalidations."""
        queue = self._queue()
        newest = queue[0][0] if queue else z64
        if newest >= (storage.lastTransaction() or z64):
            return
        for transaction in storage.iterator(p64(u64(newest) + 1)):
            self.invalidate(transaction.tid, tuple(record.oid for record in transaction))

    def invalidate(self, tid: bytes, oids: Iterable[bytes]) -> None:
        """Queue the invalidation, and send it to every client."""
        while True:
            clients = self._clients()
            try:
                super().invalidate(tid, oids)
            except KeyError:
                # No client can be connected yet, so only the queue matters.
                if clients is not None or not self._is_queued(tid):
                    raise
                return
            remaining = self._clients() or ()
            # Clients accept repeated invalidations.
            if all(client in remaining for client in clients or ()):
                return

    def _clients(self) -> list[Any] | None:
        """Return the connected clients, None before the server's setup is complete."""
        server, name = self._database.server, self._database.storage_id
        clients = server.zeo_storages_by_storage_id.get(name)
        return None if clients is None else list(clients)

    def _queue(self) -> list[tuple[bytes, Any]]:
        """Return the server's queue of (tid, oids), the newest first."""
        queue: list[tuple[bytes, Any]] = self._database.server.invq[self._database.storage_id]
        return queue

    def _is_queued(self, tid: bytes) -> bool:
        queue = self._queue()
        return bool(queue) and queue[0][0] == tid


class WrapperDatabase(Database):
    """A wrapper, such as zc.zlibstorage's, that notifies the database that uses it.

    It registers when it is created, before it has a database.
    """

    def invalidate(self, tid: bytes, oids: Iterable[bytes]) -> None:
        """Invalidate the wrapper's database, if it has one."""
        if "db" in vars(self._database):
            super().invalidate(tid, oids)


def database_adapter(database: Any) -> Database:
    """Return the adapter that notifies this database of changes."""
    if hasattr(type(database), "registerDB") and hasattr(database, "__dict__"):
        return WrapperDatabase(database)
    server = getattr(database, "server", None)
    if hasattr(server, "invq") and hasattr(server, "zeo_storages_by_storage_id"):
        return ZEODatabase(database)
    return Database(database)
