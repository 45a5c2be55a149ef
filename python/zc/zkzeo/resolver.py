"""The zodburi resolver for ``zkzeo://``: a client of the servers registered in ZooKeeper.

``zkzeo://HOST:PORT,HOST:PORT/PATH?wait_timeout=5&...`` contains the ZooKeeper servers, the
path of the node below which ZEO servers are registered, and the options of zodburi's own
``zeo://``. Options ``zookeeper_use_ssl``, ``zookeeper_ca`` and so on define how to connect to
ZooKeeper; they are the names in `zc.zrs.zookeeper.options` with the prefix ``zookeeper_``.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote

from zodburi.resolvers import ClientStorageURIResolver

from zc.zk.connection_string import check_place
from zc.zkzeo.client_storage import ClientStorage
from zc.zkzeo.config import milliseconds
from zc.zrs.zookeeper import options as zookeeper_options

SCHEME = "zkzeo://"
PREFIX = "zookeeper_"


def resolve(uri: str) -> tuple[Callable[[], ClientStorage], dict[str, str]]:
    """Return a function that opens the storage, and the remaining arguments, for the database.

    Raises `ValueError` for another scheme, for missing servers or a missing path, and for
    invalid options.
    """
    if not uri.startswith(SCHEME):
        raise ValueError(f"{uri!r} does not begin with {SCHEME}")
    where, _, query = uri.removeprefix(SCHEME).partition("?")
    connection, slash, path = where.partition("/")
    if not connection or not path:
        raise ValueError(f"{uri!r} is not {SCHEME}HOST:PORT/PATH")
    path = slash + unquote(path)
    check_place(connection, path)
    arguments: dict[str, str] = {}
    texts: dict[str, list[str]] = {}
    for name, value in parse_qsl(query):
        if name.startswith(PREFIX):
            texts.setdefault(name.removeprefix(PREFIX).replace("_", "-"), []).append(value)
        else:
            arguments[name] = value
    session_timeout = arguments.pop("session_timeout", None)
    options: dict[str, Any]
    options, rest = ClientStorageURIResolver().interpret_kwargs(arguments)
    if options.pop("demostorage", None):
        raise ValueError(f"{uri!r} has demostorage: use demo:// instead")
    if session_timeout is not None:
        options["session_timeout"] = milliseconds(session_timeout)
    options["zookeeper_options"] = zookeeper_options.kazoo_options(texts)

    def open_storage() -> ClientStorage:
        return ClientStorage(connection, path, **options)

    return open_storage, rest
