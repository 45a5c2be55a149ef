"""ZConfig sections: ``<zookeeper>`` of a server, ``<zkzeoclient>``; see server.xml, component.xml."""

from typing import Any

import ZODB.config
from ZConfig.datatypes import SocketBindingAddress

from zc.zk.connection_string import check_connection_string, check_path
from zc.zkzeo.client_storage import ClientStorage
from zc.zrs import zookeeper_options
from zc.zrs.register_as import parse_register_as


def milliseconds(text: str) -> float:
    """Return seconds; raise `ValueError` for what is no positive number of milliseconds."""
    number = int(text)
    if number <= 0:
        raise ValueError(f"{text!r} is not a positive number of milliseconds")
    return number / 1000


def listening_address(text: str) -> tuple[str, int]:
    """Return host and port, 0 if there is none; raise `ValueError` for a path."""
    address = SocketBindingAddress(text).address
    if isinstance(address, str):
        raise ValueError(f"{text!r} is the path of a UNIX socket")  # noqa: TRY004 -- for ZConfig
    return address[0] or "", address[1] or 0


def connection(text: str) -> str:
    """Return a connection string; raise `ValueError` that names the option."""
    try:
        return check_connection_string(text)
    except ValueError as error:
        raise ValueError(f"connection: {error}") from None


def path(text: str) -> str:
    """Return an absolute path; raise `ValueError` that names the option."""
    try:
        return check_path(text)
    except ValueError as error:
        raise ValueError(f"path: {error}") from None


def register_as(text: str) -> tuple[str, int | None]:
    """Return host and port, None without one; raise `ValueError` that names the option."""
    try:
        return parse_register_as(text)
    except ValueError as error:
        raise ValueError(f"register-as: {error}") from None


class ZooKeeperSection:
    """Where a server is registered, and how."""

    def __init__(self, section: Any) -> None:
        self.connection: str = section.connection
        self.path: str = section.path
        self.register_as: tuple[str, int | None] | None = section.register_as
        self.session_timeout: float | None = section.session_timeout
        self.monitor_server: tuple[str, int] | None = section.monitor_server
        self.options = zookeeper_options.from_section(section)


class ClientSection(ZODB.config.BaseConfig):  # type: ignore[misc]
    """``<zkzeoclient>``."""

    def open(self, database_name: str = "unnamed", databases: Any = None) -> ClientStorage:  # noqa: ARG002
        """Open the storage."""
        config = self.config
        options = {
            option: value
            for option in _OPTIONS
            if (value := getattr(config, option)) is not None
        }
        if config.ssl is not None:
            options["ssl"], options["ssl_server_hostname"] = config.ssl
        if config.cache_path is not None:
            options["cache"] = config.cache_path
        return ClientStorage(config.zookeeper, config.server, **options)


_OPTIONS = (
    "blob_cache_size",
    "blob_cache_size_check",
    "blob_dir",
    "cache_size",
    "client",
    "client_label",
    "drop_cache_rather_verify",
    "max_disconnect_poll",
    "min_disconnect_poll",
    "name",
    "password",
    "read_only",
    "read_only_fallback",
    "realm",
    "server_sync",
    "session_timeout",
    "shared_blob_dir",
    "storage",
    "username",
    "var",
    "wait",
    "wait_timeout",
    "zookeeper_options",
)
