"""Telling databases of replicated changes; and a ZEO server, which needs more telling.

A ZEO server is told through its `StorageServerDB`. Its code is made for changes that its
own clients commit, in its own thread; a secondary's come from another thread, and at any
time. Three things would be lost then, and are made good here:

- what is committed while the server is set up, after it has read the storage's last
  invalidations and before it registers: `catch_up`;
- what is committed while it is not quite set up: it would raise a `KeyError`;
- the invalidation of a client that follows, in the server's list of clients, one that
  leaves while the list is gone through.

This module must not know about replication or the wire.
"""

from collections.abc import Iterable
from typing import Any

from ZODB.utils import p64, u64, z64


class Database:
    """A `ZODB.DB`'s storage adapter, or anything else that can be told of changes."""

    def __init__(self, database: Any) -> None:
        self._database = database

    def __str__(self) -> str:
        return f"the registered database {self._database!r}"

    def catch_up(self, storage: Any) -> None:
        """Tell of what was committed since the database looked at the storage."""

    def invalidate(self, tid: bytes, oids: Iterable[bytes]) -> None:
        """Tell that the transaction `tid` changes the objects `oids`."""
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
                # Nobody can be connected yet: the queue is all that matters.
                if clients is not None or not self._is_queued(tid):
                    raise
                return
            remaining = self._clients() or ()
            # Clients do not mind being told twice.
            if all(client in remaining for client in clients or ()):
                return

    def _clients(self) -> list[Any] | None:
        """Return the clients connected, None if the server is not set up yet."""
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


class Layer(Database):
    """A storage around ours, such as zc.zlibstorage's, that tells the database on it.

    It registers itself when it is made, and has no database yet.
    """

    def invalidate(self, tid: bytes, oids: Iterable[bytes]) -> None:
        """Have it tell its database, if it has one."""
        if "db" in vars(self._database):
            super().invalidate(tid, oids)


def adapted(database: Any) -> Database:
    """Return what tells this database of changes."""
    if hasattr(type(database), "registerDB") and hasattr(database, "__dict__"):
        return Layer(database)
    server = getattr(database, "server", None)
    if hasattr(server, "invq") and hasattr(server, "zeo_storages_by_storage_id"):
        return ZEODatabase(database)
    return Database(database)
