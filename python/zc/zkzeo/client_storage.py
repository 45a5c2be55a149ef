"""A ZEO client storage that connects to servers registered in ZooKeeper."""

import functools
import inspect
import logging
import time
import traceback
from collections.abc import Callable
from typing import Any

import ZEO.ClientStorage
from ZEO.Exceptions import ClientDisconnected

import zc.zk
from zc.zk.connection_string import check_place
from zc.zk.errors import DISCONNECTED
from zc.zk.registered import Address, Registered
from zc.zkzeo.commit_gate import CommitGate
from zc.zkzeo.connections import ConnectionManager, Connections
from zc.zrs.system.process import Owner

WAIT_TIMEOUT = 30.0
"""Seconds to wait for the first connection; ZEO's own default."""

_ARGUMENTS = inspect.signature(ZEO.ClientStorage.ClientStorage)


def warning_of_lost_connections(call: Callable[..., Any]) -> Callable[..., Any]:
    """Make a call to the server raise `ClientDisconnected` if its connection was just lost.

    Since Python 3.12, `writelines` of a transport that asyncio closes at the same time raises
    one of these errors, because it continues with attributes that have been reset.
    """

    @functools.wraps(call)
    def checked(*args: Any, **options: Any) -> Any:
        try:
            return call(*args, **options)
        except (AttributeError, TypeError) as error:
            *_, (frame, _) = traceback.walk_tb(error.__traceback__)
            if frame.f_code.co_name != "writelines":
                raise
            raise ClientDisconnected("the connection was lost") from error

    return checked


class ClientStorage(ZEO.ClientStorage.ClientStorage):  # type: ignore[misc]
    """A client storage that follows the children of a path in ZooKeeper.

    It connects to a registered server. When the registration of its server disappears, it
    stays connected as long as the server answers, until another registered server accepts it,
    and then moves between two commits. While ZooKeeper cannot be reached, it keeps the
    addresses that it has.

    :param args: arguments of `ZEO.ClientStorage.ClientStorage` after the address
    :param session_timeout: timeout of the ZooKeeper session, in seconds
    :param options: keyword arguments of `ZEO.ClientStorage.ClientStorage`;
        ``zookeeper_options`` contains arguments of `zc.zk.ZooKeeper`

    With ``wait``, the default, it waits up to ``wait_timeout`` seconds until a server is
    registered and answers, and then raises `ZEO.Exceptions.ClientDisconnected`. Raises
    `kazoo.exceptions.NoNodeError` if the path does not exist, and `ValueError`, with the name
    of the argument, for an invalid connection string, path or timeout. In a process that was
    forked from its own, all operations that require the server raise `zc.zk.Forked`.

    Unless ``server_sync`` is set otherwise, a transaction sees everything that other clients
    have committed before it begins: the client asks the server if it is connected.
    """

    def __init__(
        self,
        connection_string: str,
        path: str,
        /,
        *args: Any,
        session_timeout: float | None = None,
        zookeeper_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        check_place(connection_string, path, session_timeout)
        bound = _ARGUMENTS.bind([], *args, **options).arguments
        wait = bool(bound.pop("wait", True))
        wait_timeout = bound.get("wait_timeout") or WAIT_TIMEOUT
        end = time.monotonic() + wait_timeout
        server_sync = bound.get("server_sync")
        self._asks_server = server_sync is None
        bound["server_sync"] = bool(server_sync)
        bound["name"] = bound.get("name") or f"{connection_string}{path}"
        self._owner = Owner()
        self._connections: Connections | None = None
        self._zk = zc.zk.ZooKeeper(
            connection_string, session_timeout, connect=False, **(zookeeper_options or {})
        )
        try:
            children = self._children(path, wait_timeout if wait else None)
            # Servers are reported only when everything else is in place.
            bound["addr"] = []
            super().__init__(**bound, wait=False)
        except BaseException:
            self._zk.close()
            raise
        self._check_process_in_calls()
        self._call: Any = warning_of_lost_connections(self._server.call)
        self._gate = CommitGate(self._commit_lock)
        self._connections = Connections(self._server, self._gate)
        try:
            self._registered = Registered(
                f"{connection_string}{path}", self._follow, logging.getLogger("zc.zkzeo")
            )
            children(self._registered.changed)
            if wait:
                self._wait_for_server(end)
        except BaseException:
            self.close()
            raise

    def _check_process_in_calls(self) -> None:
        """Make each access to the server raise `zc.zk.Forked` in a forked process.

        The thread that would answer exists only in the parent, so calls would wait forever.
        """
        server = self._server
        for name in ("io_call", "async_", "async_iter"):
            setattr(server, name, self._checking_process(getattr(server, name)))
        self._async = server.async_
        self._async_iter = server.async_iter

    def _checking_process(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def checking(*args: Any, **options: Any) -> Any:
            try:
                self._zk.check_process()
            except zc.zk.Forked:
                for coroutine in filter(inspect.iscoroutine, args):
                    coroutine.close()  # nothing awaits it
                raise
            return call(*args, **options)

        return checking

    def _children(self, path: str, timeout: float | None) -> zc.zk.Children:
        """Return the live children of the path; without `timeout`, they may not be read yet."""
        if timeout is None:
            return self._zk.children(path, wait=False)
        try:
            self._zk.wait_connected(timeout)
        except zc.zk.FailedConnect as error:
            raise ClientDisconnected(f"timed out waiting for ZooKeeper: {error}") from error
        try:
            return self._zk.children(path)
        except DISCONNECTED:
            return self._zk.children(path, wait=False)

    def _wait_for_server(self, end: float) -> None:
        while True:
            try:
                self._wait(max(0.001, end - time.monotonic()))
            except ClientDisconnected:  # noqa: PERF203 -- it waits anyway
                # The wait ends if the server disappears again.
                if time.monotonic() >= end:
                    raise
            else:
                return

    def _follow(self, addresses: list[Address]) -> None:
        self._addr = addresses
        if self._connections is not None:
            self._connections.follow(addresses)

    @property
    def _rpc_mgr(self) -> ConnectionManager:
        """The attribute of ZEO 3 from which applications read the addresses."""
        return ConnectionManager(self._registered.addresses)

    def tpc_begin(self, txn: Any, tid: bytes | None = None, status: str = " ") -> None:
        """Begin a commit, after waiting for a move to another server to complete."""
        with self._gate.beginning(self._server.timeout):
            super().tpc_begin(txn, tid, status)

    def sync(self) -> None:
        """Catch up with the commits of other clients, if the server is connected."""
        self._zk.check_process()
        if self._asks_server and self.is_connected():
            try:
                # Do not wait for another server if this one has just disconnected.
                self._call("ping", timeout=0)
            except ClientDisconnected:
                return  # as without a connection

    def close(self) -> None:
        """Disconnect from ZooKeeper and from the server. Does nothing in a forked process."""
        if not self._owner.is_this_process():
            return
        self._zk.close()
        if self._connections is not None:
            self._connections.close()
        super().close()
