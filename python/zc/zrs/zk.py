"""Primaries that register in ZooKeeper, and secondaries that find them there.

The names of the nodes below a path are the addresses of the primaries. A secondary stays with
its primary while that is registered; when the registration disappears, it connects to another
registered primary. While no primary is registered, or ZooKeeper cannot be reached, it keeps
its connection.
"""

import logging
from collections.abc import Mapping
from typing import Any

from zc.zrs.zookeeper.installed_package import check_zk_package

check_zk_package()  # before anything of that package is imported

# ruff: noqa: E402
import kazoo.exceptions

import zc.zk
import zc.zrs.primary
import zc.zrs.secondary
from zc.zk.connection_string import check_place
from zc.zk.registered import Registered
from zc.zrs.system.address import Address
from zc.zrs.zookeeper.register_as import address_to_register, parse_register_as

__all__ = ["Primary", "Secondary"]

logger = logging.getLogger(__name__)


class Primary(zc.zrs.primary.Primary):
    """A primary whose address is registered while it is open.

    It listens immediately, and is registered when ZooKeeper can be reached.

    :param addr: address on which to listen. Unless `register_as` is given, this host, or the
        machine's name if the host is empty, is registered with the port that was bound
    :param connection_string: the ZooKeeper servers
    :param path: the node below which to register
    :param session_timeout: timeout of the ZooKeeper session, in seconds
    :param zookeeper_options: further arguments of `zc.zk.ZooKeeper`, such as those for TLS and
        SASL
    :param register_as: ``HOST`` or ``HOST:PORT`` to register instead of the address on which
        the primary listens
    :param options: those of `zc.zrs.primary.Primary`

    Raises `ValueError` for the path of a UNIX socket, for a `register_as` to which other
    machines cannot connect, and for an invalid connection string, path or timeout.
    """

    def __init__(  # noqa: PLR0913 -- as with zc.zrs
        self,
        storage_or_path: Any,
        addr: Address,
        connection_string: str,
        path: str,
        reactor: Any = None,
        *,
        session_timeout: float | None = None,
        zookeeper_options: Mapping[str, Any] | None = None,
        register_as: str | None = None,
        **options: Any,
    ) -> None:
        if isinstance(addr, str):
            raise ValueError(f"{addr!r}: a UNIX socket cannot be registered in ZooKeeper")  # noqa: TRY004 -- such addresses are, elsewhere
        check_place(connection_string, path, session_timeout)
        register = None if register_as is None else parse_register_as(register_as)
        # Names of the base class's own attributes are the same: it has no `zk`.
        self.__zk: zc.zk.ZooKeeper | None = None
        self.__registration: zc.zk.Registration | None = None
        super().__init__(storage_or_path, addr, reactor, **options)
        try:
            self.__zk = zc.zk.ZooKeeper(
                connection_string, session_timeout, connect=False, **(zookeeper_options or {})
            )
            address = address_to_register(register, addr[0], int(self.address[1]))
            self.__registration = self.__zk.registration(path, address, {})
            self.__registration.register_later()
        except BaseException:
            if self.__zk is not None:
                self.__zk.close()
            super().close()
            raise

    def status(self) -> dict[str, Any]:
        """Return the status of `zc.zrs.primary.Primary`, with ``zookeeper`` in addition."""
        status = super().status()
        # The status server may ask while the primary is being opened.
        if self.__zk is not None and self.__registration is not None:
            registration = self.__registration
            status["zookeeper"] = {
                **_session_status(self.__zk),
                "path": registration.path,
                "registered": registration.registered.is_set(),
                "why_not_registered": registration.complaint or None,
            }
        return status

    def close(self) -> None:
        """Remove the registration, and close the primary."""
        if self.__zk is not None:
            self.__zk.close()
        super().close()


class Secondary(zc.zrs.secondary.Secondary):
    """A secondary that replicates from a registered primary.

    :param connection_string: the ZooKeeper servers
    :param path: the node below which primaries are registered
    :param session_timeout: timeout of the ZooKeeper session, in seconds
    :param zookeeper_options: further arguments of `zc.zk.ZooKeeper`, such as those for TLS and
        SASL
    :param options: those of `zc.zrs.secondary.Secondary`

    It opens immediately, even if no primary is registered or ZooKeeper cannot be reached.
    Raises `ValueError` for an invalid connection string, path or timeout.
    """

    def __init__(  # noqa: PLR0913 -- as with zc.zrs
        self,
        storage_or_path: Any,
        connection_string: str,
        path: str,
        reactor: Any = None,
        *,
        session_timeout: float | None = None,
        zookeeper_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.__zk: zc.zk.ZooKeeper | None = None
        self.__registered: Registered | None = None
        self.__path = path
        check_place(connection_string, path, session_timeout)
        super().__init__(storage_or_path, [], reactor, **options)
        try:
            self.__zk = zc.zk.ZooKeeper(
                connection_string, session_timeout, connect=False, **(zookeeper_options or {})
            )
            where = f"{connection_string}{path}"
            self.__registered = Registered(where, self.__follow, logger)
            self.__zk.children(path, wait=False)(self.__registered.changed)
        except BaseException:
            if self.__zk is not None:
                self.__zk.close()
            super().close()
            raise

    def __follow(self, addresses: list[tuple[str, int]]) -> None:
        # A primary that has lost only ZooKeeper still replicates.
        self.setReplicationAddresses(list(addresses), stay=True)

    def status(self) -> dict[str, Any]:
        """Return the status of `zc.zrs.secondary.Secondary`, with ``zookeeper`` in addition."""
        status = super().status()
        if self.__zk is not None and self.__registered is not None:
            status["zookeeper"] = {
                **_session_status(self.__zk),
                "path": self.__path,
                "addresses": [list(address) for address in self.__registered.addresses],
            }
        return status

    def close(self) -> None:
        """Stop following ZooKeeper, and close the secondary."""
        if self.__zk is not None:
            self.__zk.close()
        super().close()


def _session_status(zk: zc.zk.ZooKeeper) -> dict[str, Any]:
    """Return what the status of either side says of its session."""
    try:
        session = f"{zk.session_id:#x}"
    except kazoo.exceptions.ConnectionLoss:
        session = None
    return {
        "servers": zk.connection_string,
        "connected": zk.connected,
        "session": session,
    }
