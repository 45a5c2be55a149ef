"""ZEO servers that register in ZooKeeper, and clients that find them there.

`client`, `DB` and `connection` are used like those of ZEO, with a ZooKeeper connection string
and a path instead of an address. `zc.zkzeo.runzeo` runs servers. In ZConfig files, use
``%import zc.zkzeo``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zc.zrs.zookeeper.installed_package import check_zk_package

if TYPE_CHECKING:
    import ZODB

    from zc.zkzeo.client_storage import ClientStorage

check_zk_package()

NEEDS = "needs ZEO and kazoo: pip install 'zrs[zeo,zookeeper]'"

__all__ = ["DB", "ClientStorage", "client", "connection"]


def __getattr__(name: str) -> Any:
    # The package can be imported without ZEO, so that its programs can report what is missing.
    if name != "ClientStorage":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from zc.zkzeo.client_storage import ClientStorage  # noqa: PLC0415 -- an extra
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"zc.zkzeo {NEEDS} ({error})", name=error.name) from error
    return ClientStorage


def client(connection_string: str, path: str, *args: Any, **options: Any) -> ClientStorage:
    """Return a client storage of the servers that are registered at a path.

    Further arguments are those of `ZEO.ClientStorage.ClientStorage` after the address, and
    ``session_timeout`` in seconds.
    """
    storage: ClientStorage = __getattr__("ClientStorage")(
        connection_string, path, *args, **options
    )
    return storage


def DB(connection_string: str, path: str, *args: Any, **options: Any) -> ZODB.DB:
    """Return a database in a `client`, with the same arguments."""
    import ZODB  # noqa: PLC0415 -- zkzeo-nagios does without it

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
