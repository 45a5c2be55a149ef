"""Primaries that register in ZooKeeper, and secondaries that find them there.

The names of the nodes below a path are the addresses of the primaries. A secondary stays with
its primary while that is registered; when the registration disappears, it connects to another
registered primary. While no primary is registered, or ZooKeeper cannot be reached, it keeps
its connection.
"""

import logging
from collections.abc import Callable, Mapping
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
from zc.zrs.status.schema import PrimaryStatus, SecondaryStatus, ZooKeeperSession
from zc.zrs.storages.replica import Replica
from zc.zrs.system.address import Address
from zc.zrs.zookeeper.register_as import address_to_register, parse_register_as

__all__ = ["Primary", "Secondary"]

logger = logging.getLogger(__name__)


class _InZooKeeper(Replica):
    """A replica with a session, which is closed before the replica."""

    __zk: zc.zk.ZooKeeper | None = None

    def _open_session(
        self,
        begin: Callable[[zc.zk.ZooKeeper], object],
        connection_string: str,
        session_timeout: float | None,
        options: Mapping[str, Any] | None,
    ) -> None:
        """Open the session and call `begin` with it; close the replica if that fails."""
        try:
            self.__zk = zc.zk.ZooKeeper(
                connection_string, session_timeout, connect=False, **(options or {})
            )
            begin(self.__zk)
        except BaseException:
            # A subclass's own close may use attributes that the subclass has not set yet.
            _InZooKeeper.close(self)
            raise

    def _session_status(self) -> ZooKeeperSession | None:
        """Return the status of the session, None before it is opened."""
        zk = self.__zk
        if zk is None:
            return None
        try:
            session = f"{zk.session_id:#x}"
        except kazoo.exceptions.ConnectionLoss:
            session = None
        return {"servers": zk.connection_string, "connected": zk.connected, "session": session}

    def close(self) -> None:
        """End the session, and close the replica."""
        if self.__zk is not None:
            self.__zk.close()
        super().close()


class Primary(_InZooKeeper, zc.zrs.primary.Primary):
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

    def __init__(  # noqa: PLR0913 -- as in zc.zrs
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
        # Private names are those of the base class, which has the same class name; it has no
        # `registration`.
        self.__registration: zc.zk.Registration | None = None
        super().__init__(storage_or_path, addr, reactor, **options)

        def begin(zk: zc.zk.ZooKeeper) -> None:
            address = address_to_register(register, addr[0], int(self.address[1]))
            self.__registration = zk.registration(path, address, {})
            self.__registration.register_later()

        self._open_session(begin, connection_string, session_timeout, zookeeper_options)

    def status(self) -> PrimaryStatus:
        """Return the status of `zc.zrs.primary.Primary`, with ``zookeeper`` in addition."""
        status = super().status()
        # The status server may call this while the primary is being opened.
        session, registration = self._session_status(), self.__registration
        if session is not None and registration is not None:
            status["zookeeper"] = {
                **session,
                "path": registration.path,
                "registered": registration.registered.is_set(),
                "why_not_registered": registration.problem or None,
            }
        return status


class Secondary(_InZooKeeper, zc.zrs.secondary.Secondary):
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

    def __init__(  # noqa: PLR0913 -- as in zc.zrs
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
        self.__registered: Registered | None = None
        self.__path = path
        check_place(connection_string, path, session_timeout)
        super().__init__(storage_or_path, [], reactor, **options)

        def begin(zk: zc.zk.ZooKeeper) -> None:
            where = f"{connection_string}{path}"
            self.__registered = Registered(where, self.__follow, logger)
            zk.children(path, wait=False)(self.__registered.changed)

        self._open_session(begin, connection_string, session_timeout, zookeeper_options)

    def __follow(self, addresses: list[tuple[str, int]]) -> None:
        # A primary that has only lost ZooKeeper still replicates.
        self.setReplicationAddresses(list(addresses), stay=True)

    def status(self) -> SecondaryStatus:
        """Return the status of `zc.zrs.secondary.Secondary`, with ``zookeeper`` in addition."""
        status = super().status()
        session, registered = self._session_status(), self.__registered
        if session is not None and registered is not None:
            status["zookeeper"] = {
                **session,
                "path": self.__path,
                "addresses": [list(address) for address in registered.addresses],
            }
        return status
