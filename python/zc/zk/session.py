"""A session with ZooKeeper, and what is to be done when a lost connection is back.

Kazoo keeps the connection; when it is up again, with the old session or with a new one,
everything that follows nodes or keeps them is refreshed.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import kazoo.client
import kazoo.exceptions
from kazoo.protocol.states import KazooState, KeeperState

from zc.zk.errors import FailedConnect, Forked
from zc.zk.worker import InCallback, Worker

SESSION_TIMEOUT = 10.0
"""Seconds without a sign of life after which servers end a session, unless told otherwise."""

RECONNECT = {"max_tries": -1, "delay": 0.1, "backoff": 2, "max_delay": 3.0}
"""How kazoo tries to connect again: for ever, after at most this many seconds."""

POLL = 0.05

logger = logging.getLogger(__name__)


class Follower(Protocol):
    """What depends on nodes."""

    def refresh(self) -> None:
        """Look at the nodes again, in the session's own thread; never raises."""


class Session:
    """A kazoo client that connects in the background, its worker, and its followers."""

    def __init__(
        self, connection_string: str, session_timeout: float | None, **kazoo_options: Any
    ) -> None:
        """Begin to connect.

        :param connection_string: ``HOST:PORT,HOST:PORT/CHROOT``, as ZooKeeper has it
        :param session_timeout: seconds; servers have limits of their own
        :param kazoo_options: arguments of `kazoo.client.KazooClient`, TLS and SASL among them
        """
        self.connection_string = connection_string
        self._pid = os.getpid()
        self._closed = threading.Event()
        self._is_refused = False
        self._followers: list[Follower] = []
        self._lock = threading.Lock()
        self.in_callback = InCallback()
        kazoo_options.setdefault("connection_retry", RECONNECT)
        # By its module's name, so that it can be replaced there.
        self.client = kazoo.client.KazooClient(
            connection_string, timeout=session_timeout or SESSION_TIMEOUT, **kazoo_options
        )
        self.worker = Worker(f"zookeeper {connection_string}")
        self.client.add_listener(self._state_changed)
        self.client.start_async()

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return bool(self.client.connected)

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

    def check_process(self) -> None:
        """Raise `Forked` in a process that is not the session's own."""
        if os.getpid() != self._pid:
            raise Forked(
                f"this session of {self.connection_string} belongs to process {self._pid}:"
                " after a fork make a new one"
            )

    def wait_connected(self, timeout: float | None) -> None:
        """Wait for a connection, for so many seconds or for ever; raise `FailedConnect`."""
        end = None if timeout is None else time.monotonic() + timeout
        begun = False
        while not self.connected:
            if self.closed:
                raise FailedConnect(f"{self.connection_string}: closed")
            # Kazoo raises nothing when it is refused: it closes, and tries no more.
            state = self.client.client_state
            gave_up = begun and state == KeeperState.CLOSED
            if gave_up or self._is_refused or state == KeeperState.AUTH_FAILED:
                raise FailedConnect(f"{self.connection_string}: authentication failed")
            begun = begun or state != KeeperState.CLOSED
            if end is not None and time.monotonic() > end:
                raise FailedConnect(f"{self.connection_string}: no answer in {timeout} s")
            self._closed.wait(POLL)

    def follow(self, follower: Follower) -> None:
        """Refresh a follower whenever the connection is back."""
        with self._lock:
            self._followers.append(follower)

    def unfollow(self, follower: Follower) -> None:
        """Refresh a follower no more."""
        with self._lock, contextlib.suppress(ValueError):
            self._followers.remove(follower)

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
        self.worker.stop()
        self.client.remove_listener(self._state_changed)
        self.client.stop()
        self.client.close()
        if not self.in_callback.depth:
            self.worker.join()

    def _state_changed(self, state: Any) -> None:
        # In kazoo's own thread, which must not wait.
        if self.client.client_state == KeeperState.AUTH_FAILED:
            self._is_refused = True
        if state == KazooState.CONNECTED:
            self.worker.put(self._refresh_all)

    def _refresh_all(self) -> None:
        with self._lock:
            followers = list(self._followers)
        for follower in followers:
            follower.refresh()
