"""A session with ZooKeeper, and what is to be done when a lost connection is back.

Kazoo keeps the connection; when it is up again, with the old session or with a new one,
everything that follows nodes or keeps them is refreshed.
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
"""Seconds without a sign of life after which servers end a session, unless told otherwise."""

RECONNECT = {"max_tries": -1, "delay": 0.1, "backoff": 2}
"""How kazoo tries to connect again: for ever, with growing delays."""

MAX_RECONNECT_DELAY = 3.0
"""The longest such delay in seconds; shorter for sessions that would end meanwhile."""

CLOSE_TIMEOUT = 5.0
"""Seconds that servers have to answer when a session is closed."""

RESTART_DELAY = 2.0
"""Seconds after which a client is replaced that kazoo has given up, as it does when refused."""

POLL = 0.05

logger = logging.getLogger(__name__)


class Follower(Protocol):
    """What depends on nodes."""

    def refresh(self) -> None:
        """Look at the nodes again, in the session's own thread; never raises."""


class Session:
    """A kazoo client that connects in the background, its worker, and its followers."""

    def __init__(
        self,
        connection_string: str,
        session_timeout: float | None,
        call_timeout: float = CALL_TIMEOUT,
        **kazoo_options: Any,
    ) -> None:
        """Begin to connect.

        :param connection_string: ``HOST:PORT,HOST:PORT/CHROOT``, as ZooKeeper has it
        :param session_timeout: seconds; servers have limits of their own
        :param call_timeout: seconds that servers have to answer a call
        :param kazoo_options: arguments of `kazoo.client.KazooClient`, TLS and SASL among
            them; see `zc.zk.connecting.tls_context`

        Raises `ValueError` and `OSError` for options that cannot be meant.
        """
        self.connection_string = check_connection_string(connection_string)
        self._pid = os.getpid()
        self._closed = threading.Event()
        self._is_refused = False
        self._gave_up = False
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
        # By its module's name, so that it can be replaced there.
        client = kazoo.client.KazooClient(
            self.connection_string, handler=Handler(self._tls, self._client_ended), **options
        )
        client.add_listener(self._state_changed)
        return client

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return bool(self.client.connected)

    @property
    def has_default_acl(self) -> bool:
        """Whether the caller has said who may do what with the nodes that are made."""
        return self._options.get("default_acl") is not None

    @property
    def session_id(self) -> int:
        """The session's id, not 0; raise `kazoo.exceptions.ConnectionLoss` if there is none."""
        client_id = self.client.client_id
        if not client_id or not client_id[0]:
            raise kazoo.exceptions.ConnectionLoss
        return int(client_id[0])

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed.is_set()

    def check_chroot(self) -> None:
        """Raise `NoChroot` if the path of the connection string is not there."""
        _, slash, chroot = self.connection_string.partition("/")
        if chroot.strip("/") and not self.nodes.exists("/"):
            raise NoChroot(
                f"{slash}{chroot}, the path in the connection string"
                f" {self.connection_string}, does not exist in ZooKeeper"
            )

    def check_process(self) -> None:
        """Raise `Forked` in a process that is not the session's own."""
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
            if self._gave_up:
                raise FailedConnect(f"{self.connection_string}: {self._why()}")
            if end is not None and time.monotonic() > end:
                raise FailedConnect(
                    f"{self.connection_string}: no answer in {timeout} s{self._last_failure()}"
                )
            self._closed.wait(POLL)

    def _is_answered(self, end: float | None) -> bool:
        # Kazoo says that it is connected before servers have looked at its credentials.
        if not self.connected:
            return False
        remaining = None if end is None else max(0.001, end - time.monotonic())
        try:
            self.client.exists_async("/").get(timeout=remaining)
        except (*DISCONNECTED, kazoo.exceptions.AuthFailedError):
            return False
        return True

    def _why(self) -> str:
        """Say why kazoo does not try any more."""
        if self._is_refused:
            return "authentication failed"
        return f"kazoo has given up{self._last_failure()}"

    def _last_failure(self) -> str:
        failure = self.client.handler.failure
        return "" if failure is None else f" (the last attempt: {failure})"

    def follow(self, follower: Follower) -> None:
        """Refresh a follower whenever the connection is back.

        It goes when nobody has it any more, unless it is to be kept.
        """
        with self._lock:
            self._followers.append(weakref.ref(follower, self._dropped.append))
            # Not in the callback itself, which may come while the lock is held.
            for reference in [self._dropped.popleft() for _ in range(len(self._dropped))]:
                with contextlib.suppress(ValueError):
                    self._followers.remove(reference)

    def forget_watcher(self, watcher: Callable[[Any], None]) -> None:
        """Have kazoo keep a function no longer that it would call at a change."""
        client = self.client
        for watchers in (client._data_watchers, client._child_watchers):  # noqa: SLF001 -- kazoo has no public way
            for functions in list(watchers.values()):
                functions.discard(watcher)

    def keep(self, follower: Follower) -> None:
        """Have a follower stay though nobody else may have it."""
        with self._lock:
            self._kept[id(follower)] = follower

    def let_go(self, follower: Follower) -> None:
        """Have a follower go when nobody else has it."""
        with self._lock:
            self._kept.pop(id(follower), None)

    def later(self, function: Callable[[], None], delay: float = 0) -> None:
        """Call a function in the session's thread, in `delay` seconds."""
        self.worker.put(function, delay)

    def close(self) -> None:
        """End the session: its ephemeral nodes go, and nobody is told of anything any more.

        Does nothing the second time, or in a process forked from the session's.
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
        # In kazoo's own thread. It never connects again, and says so to nobody.
        if not self.closed:
            self._gave_up = True
            self.worker.put(self._restart, RESTART_DELAY)

    def _restart(self) -> None:
        """Go on with another client: what has refused us may know us some time."""
        why = self._why()
        if why != self._reported:
            logger.error("%s: %s; trying again", self.connection_string, why)
        self._reported = why
        with self._lock:
            if self.closed:
                return
            old, self.client = self.client, self._new_client()
            self._is_refused = self._gave_up = False
            self.client.start_async()
        self._stop(old)

    def _refresh_all(self) -> None:
        with self._lock:
            # One without children is false, and there.
            there = [(r, f) for r in self._followers if (f := r()) is not None]
            self._followers = [ref for ref, _ in there]
        for _, follower in there:
            follower.refresh()
        if self._reported and self._is_answered(time.monotonic() + SESSION_TIMEOUT):
            logger.info("%s: connected again", self.connection_string)
            self._reported = ""
