"""A storage that writes to a primary and reads from its secondary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import directlyProvides, providedBy

from replicas.waiting import wait_until

if TYPE_CHECKING:
    from zc.zrs.primary import Primary
    from zc.zrs.secondary import Secondary

WRITING = frozenset(
    [
        "checkCurrentSerialInTransaction",
        "copyTransactionsFrom",
        "deleteObject",
        "new_oid",
        "restore",
        "sortKey",
        "store",
        "tpc_abort",
        "tpc_begin",
        "tpc_transaction",
        "tpc_vote",
        "undo",
        # The primary's storage resolves conflicts.
        "tryToResolveConflict",
    ]
)


class SplitStorage:
    """Writes go to the primary, everything else to the secondary.

    A commit returns when the secondary has received it, so callers read what they wrote. A
    pack, which is not replicated, packs both. Closing it detaches it from both.
    """

    def __init__(self, primary: Primary, secondary: Secondary) -> None:
        self._primary = primary
        self._secondary = secondary
        self._databases: list[Registered] = []
        directlyProvides(self, providedBy(primary))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._primary if name in WRITING else self._secondary, name)

    def __len__(self) -> int:
        return len(self._secondary)

    def isReadOnly(self) -> bool:
        return False

    def tpc_finish(self, transaction: Any, f: Any = None) -> bytes | None:
        # A notified database would read the transaction at once, so it is notified when the
        # secondary has the transaction. (The secondary notifies its own databases.)
        tid = self._primary.tpc_finish(transaction)
        if tid is not None:
            wait_until(lambda: self._secondary.lastTransaction() >= tid, "the commit arrives")
            if f is not None:
                f(tid)
        return tid

    def pack(self, *args: Any, **options: Any) -> None:
        self._primary.pack(*args, **options)
        self._secondary.pack(*args, **options)

    def registerDB(self, db: Any) -> None:
        self._databases.append(registered := Registered(db))
        self._secondary.registerDB(registered)

    def close(self) -> None:
        for database in self._databases:
            database.closed = True


class Registered:
    """A database that is notified of changes until its split storage is closed.

    A secondary keeps a registered database until it is closed itself.
    """

    closed = False

    def __init__(self, database: Any) -> None:
        self._database = database

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def invalidate(self, tid: bytes, oids: Any) -> None:
        # A database that is being closed may fail, and is not read any more.
        if not self.closed:
            try:
                self._database.invalidate(tid, oids)
            except AttributeError:
                if not self.closed:
                    raise
