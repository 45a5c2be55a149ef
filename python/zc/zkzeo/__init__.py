"""ZEO servers that register in ZooKeeper, and clients that find them there.

`client`, `DB` and `connection` are used like those of ZEO, with a ZooKeeper connection string
and a path instead of an address. Servers are run by `zc.zkzeo.runzeo`; ZConfig files say
``%import zc.zkzeo``.
"""

from typing import Any

import ZODB

from zc.zkzeo.client_storage import ClientStorage

__all__ = ["DB", "ClientStorage", "client", "connection"]


def client(connection_string: str, path: str, *args: Any, **options: Any) -> ClientStorage:
    """Return a client storage of the servers that are registered at a path.

    Further arguments are those of `ZEO.ClientStorage.ClientStorage` after the address, and
    ``session_timeout`` in seconds.
    """
    return ClientStorage(connection_string, path, *args, **options)


def DB(connection_string: str, path: str, *args: Any, **options: Any) -> ZODB.DB:
    """Return a database in a `client`, with the same arguments."""
    storage = client(connection_string, path, *args, **options)
    try:
        return ZODB.DB(storage)
    except BaseException:
        storage.close()
        raise


def connection(connection_string: str, path: str, *args: Any, **options: Any) -> Any:
    """Return a connection to a `DB` that is closed with it."""
    db = DB(connection_string, path, *args, **options)
    try:
        return db.open_then_close_db_when_connection_closes()
    except BaseException:
        db.close()
        raise
