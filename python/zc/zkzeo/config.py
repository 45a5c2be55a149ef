"""ZConfig sections: ``<zookeeper>`` of a server, ``<zkzeoclient>``; see server.xml, component.xml."""

import contextlib
from typing import Any

import ZODB.config

from zc.zk.connection_string import (
    MAX_SESSION_TIMEOUT,
    check_connection_string,
    check_path,
    named,
    quoted,
)
from zc.zkzeo.client_storage import ClientStorage
from zc.zrs.system.address import parse_listening_address
from zc.zrs.system.quantities import parse_duration
from zc.zrs.zookeeper import options as zookeeper_options
from zc.zrs.zookeeper.register_as import parse_register_as

MAX_MILLISECONDS = round(MAX_SESSION_TIMEOUT * 1000)


def milliseconds(text: str) -> float:
    """Return the seconds of a session timeout, which is in milliseconds unless it has a unit.

    Raises `ValueError` that names the option.
    """
    value = text.strip()
    seconds = 0.0
    if value.isdecimal() or value[-1:].isalpha():
        with contextlib.suppress(ValueError):
            seconds = parse_duration(f"{value}ms" if value.isdecimal() else value)
    if not 0 < seconds <= MAX_SESSION_TIMEOUT:
        raise ValueError(
            f"session-timeout: {quoted(text)} is not a number of milliseconds from 1 to"
            f" {MAX_MILLISECONDS}, or a duration such as 10s"
        )
    return seconds


listening_address = named("monitor-server", parse_listening_address)
connection = named("connection", check_connection_string)
path = named("path", check_path)
register_as = named("register-as", parse_register_as)
zookeeper = named("zookeeper", check_connection_string)
server = named("server", check_path)


class ZooKeeperSection:
    """The values of ``<zookeeper>``: where a server is registered, and how."""

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
