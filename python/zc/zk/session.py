"""A session with ZooKeeper, and the recovery after a lost connection.

Kazoo maintains the connection. After a reconnection, in the old session or a new one,
everything that follows or keeps nodes is refreshed.
"""

import collections
import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import kazoo.client
import kazoo.exceptions
from kazoo.protocol.states import KazooState, KeeperState

from zc.zk.connecting import Handler, check_sasl, tls_context
from zc.zk.connection_string import check_connection_string, check_session_timeout
from zc.zk.errors import DISCONNECTED, FailedConnect, Forked, NoChroot
from zc.zk.nodes import CALL_TIMEOUT, Nodes
from zc.zk.worker import InCallback, Worker

SESSION_TIMEOUT = 10.0
"""Default number of seconds without a message after which servers end a session."""

RECONNECT = {"max_tries": -1, "delay": 0.1, "backoff": 2}
"""Kazoo reconnects without a limit, with growing delays."""

MAX_RECONNECT_DELAY = 3.0
"""The maximum delay in seconds; shorter if the session would end during it."""

CLOSE_TIMEOUT = 5.0
"""Timeout in seconds for closing a session."""

RESTART_DELAY = 2.0
"""Seconds after which a client that kazoo has stopped, as after a refusal, is replaced."""

POLL = 0.05

logger = logging.getLogger(__name__)


class Follower(Protocol):
    """An object that depends on nodes."""

    def refresh(self) -> None:
        """Read the nodes again, in the session's own thread; never raises."""


class Session:
    """A kazoo client that connects in the background, its worker, and its followers."""

    def __init__(
        self,
        connection_string: str,
        session_timeout: float | None,
        call_timeout: float = CALL_TIMEOUT,
        **kazoo_options: Any,
    ) -> None:
        """Start connecting.

        :param connection_string: ``HOST:PORT,HOST:PORT/CHROOT``, in ZooKeeper's format
        :param session_timeout: in seconds; servers impose their own limits
        :param call_timeout: timeout of a call, in seconds
        :param kazoo_options: arguments of `kazoo.client.KazooClient`, for example for TLS and
            SASL; see `zc.zk.connecting.tls_context`

        Raises `ValueError` and `OSError` for invalid options.
        """
        self.connection_string = check_connection_string(connection_string)
        self._pid = os.getpid()
        self._closed = threading.Event()
        self._is_refused = False
        self._is_stopped = False
        self._reported = ""
        self._followers: list[Callable[[], Follower | None]] = []
        self._dropped: collections.deque[Callable[[], Follower | None]] = collections.deque()
        self._kept: dict[int, Follower] = {}
        self._lock = threading.Lock()
        self.in_callback = InCallback()
        self._tls = tls_context(kazoo_options)
        check_sasl(kazoo_options.get("sasl_options"))
        check_session_timeout(session_timeout)
        timeout = SESSION_TIMEOUT if session_timeout is None else session_timeout
        max_delay = min(MAX_RECONNECT_DELAY, timeout / 3)
        self._options = {
            "connection_retry": {**RECONNECT, "max_delay": max_delay},
            **kazoo_options,
            "timeout": timeout,
        }
        self.nodes = Nodes(lambda: self.client, connection_string, call_timeout)
        self.client = self._new_client()
        self.worker = Worker(f"zookeeper {connection_string}")
        self.client.start_async()

    def _new_client(self) -> Any:
        options = dict(self._options)
        if options.get("sasl_options") is not None:
            options["sasl_options"] = dict(options["sasl_options"])  # kazoo adds to it
        # Looked up in its module, so that it can be replaced there.
        client = kazoo.client.KazooClient(
            self.connection_string, handler=Handler(self._tls, self._client_ended), **options
        )
        client.add_listener(self._state_changed)
        return client

    @property
    def connected(self) -> bool:
        """Whether the session is connected."""
        return bool(self.client.connected)

    @property
    def has_default_acl(self) -> bool:
        """Whether the caller has set default permissions for new nodes."""
        return self._options.get("default_acl") is not None

    @property
    def session_id(self) -> int:
        """The session's id, not 0; raise `kazoo.exceptions.ConnectionLoss` without one."""
        client_id = self.client.client_id
        if not client_id or not client_id[0]:
            raise kazoo.exceptions.ConnectionLoss
        return int(client_id[0])

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed.is_set()

    def check_chroot(self) -> None:
        """Raise `NoChroot` if the path of the connection string does not exist."""
        _, slash, chroot = self.connection_string.partition("/")
        if chroot.strip("/") and not self.nodes.exists("/"):
            raise NoChroot(
                f"{slash}{chroot}, the path in the connection string"
                f" {self.connection_string}, does not exist in ZooKeeper"
            )

    def check_process(self) -> None:
        """Raise `Forked` in a process other than the one that opened the session."""
        if os.getpid() != self._pid:
            raise Forked(
                f"this session of {self.connection_string} belongs to process"
                f" {self._pid}: create a new one after a fork"
            )

    def wait_connected(self, timeout: float | None) -> None:
        """Wait until a server answers, for at most this many seconds; None for no limit.

        Raises `FailedConnect` if none does, and immediately if a server refuses the session.
        """
        self.check_process()
        end = None if timeout is None else time.monotonic() + timeout
        while not self._is_answered(end):
            if self.closed:
                raise FailedConnect(f"{self.connection_string}: closed")
            if self._is_stopped:
                raise FailedConnect(f"{self.connection_string}: {self._why()}")
            if end is not None and time.monotonic() > end:
                raise FailedConnect(
                    f"{self.connection_string}: no answer in {timeout} s{self._last_failure()}"
                )
            self._closed.wait(POLL)

    def _is_answered(self, end: float | None) -> bool:
        # Kazoo reports a connection before servers have checked its credentials.
        if not self.connected:
            return False
        remaining = None if end is None else max(0.001, end - time.monotonic())
        try:
            self.client.exists_async("/").get(timeout=remaining)
        except (*DISCONNECTED, kazoo.exceptions.AuthFailedError):
            return False
        return True

    def _why(self) -> str:
        """Return why kazoo has stopped connecting."""
        if self._is_refused:
            return "authentication failed"
        return f"kazoo has given up{self._last_failure()}"

    def _last_failure(self) -> str:
        failure = self.client.handler.failure
        return "" if failure is None else f" (the last attempt: {failure})"

    def follow(self, follower: Follower) -> None:
        """Refresh a follower after each reconnection.

        The session holds a weak reference to it, unless `keep` is called.
        """
        with self._lock:
            self._followers.append(weakref.ref(follower, self._dropped.append))
            # Not in the callback itself, which may run while the lock is held.
            for reference in [self._dropped.popleft() for _ in range(len(self._dropped))]:
                with contextlib.suppress(ValueError):
                    self._followers.remove(reference)

    def forget_watcher(self, watcher: Callable[[Any], None]) -> None:
        """Remove a function that kazoo would call at a change."""
        client = self.client
        for watchers in (client._data_watchers, client._child_watchers):  # noqa: SLF001 -- kazoo has no public way
            for functions in list(watchers.values()):
                functions.discard(watcher)

    def keep(self, follower: Follower) -> None:
        """Keep a follower alive even if nothing else refers to it."""
        with self._lock:
            self._kept[id(follower)] = follower

    def release(self, follower: Follower) -> None:
        """Stop keeping a follower alive."""
        with self._lock:
            self._kept.pop(id(follower), None)

    def later(self, function: Callable[[], None], delay: float = 0) -> None:
        """Call a function in the session's thread after `delay` seconds."""
        self.worker.put(function, delay)

    def close(self) -> None:
        """End the session: its ephemeral nodes are deleted, and no more changes are reported.

        Does nothing the second time, or in a forked process.
        """
        if os.getpid() != self._pid:
            return
        with self._lock:
            if self.closed:
                return
            self._closed.set()
            self._followers.clear()
            self._kept.clear()
        self.worker.stop()
        self._stop(self.client)
        if not self.in_callback.depth:
            self.worker.join()

    def _stop(self, client: Any) -> None:
        client.remove_listener(self._state_changed)

        def stop() -> None:
            try:
                client.stop()
                client.close()
            except Exception as error:  # noqa: BLE001 -- it is given up in any case
                logger.warning("%s: closing: %r", self.connection_string, error)

        # Kazoo waits for an answer until the session ends.
        stopping = threading.Thread(target=stop, name="zookeeper close", daemon=True)
        stopping.start()
        stopping.join(CLOSE_TIMEOUT)
        if stopping.is_alive():
            client.handler.abort()
            stopping.join(CLOSE_TIMEOUT)

    def _state_changed(self, state: Any) -> None:
        # In kazoo's own thread, which must not wait.
        if self.client.client_state == KeeperState.AUTH_FAILED:
            self._is_refused = True
        if state == KazooState.CONNECTED:
            self.worker.put(self._refresh_all)

    def _client_ended(self) -> None:
        # In kazoo's own thread. The client never connects again, and does not report that.
        if not self.closed:
            self._is_stopped = True
            self.worker.put(self._restart, RESTART_DELAY)

    def _restart(self) -> None:
        """Replace the client: a server that refused our credentials may accept them later."""
        why = self._why()
        if why != self._reported:
            logger.error("%s: %s; trying again", self.connection_string, why)
        self._reported = why
        with self._lock:
            if self.closed:
                return
            old, self.client = self.client, self._new_client()
            self._is_refused = self._is_stopped = False
            self.client.start_async()
        self._stop(old)

    def _refresh_all(self) -> None:
        with self._lock:
            # An empty `Children` is falsy but alive.
            there = [(r, f) for r in self._followers if (f := r()) is not None]
            self._followers = [ref for ref, _ in there]
        for _, follower in there:
            follower.refresh()
        if self._reported and self._is_answered(time.monotonic() + SESSION_TIMEOUT):
            logger.info("%s: connected again", self.connection_string)
            self._reported = ""
