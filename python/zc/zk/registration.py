"""Registrations of servers: ephemeral nodes that are created again when they are lost.

The name of the node is the server's address. A node with that name may already exist in another
session. If it was created by this server before it crashed or lost its session, it is replaced
immediately, in one transaction, so that no client notices its absence. If another server claims
the same address, the server that was started last gets the node, and the other one waits until
the node is deleted.
"""

import contextlib
import logging
import os
import posixpath
import threading
from collections.abc import Callable, Mapping
from typing import Any

import kazoo.exceptions
from kazoo.security import READ_ACL_UNSAFE

from zc.zk.address import format_addr
from zc.zk.errors import (
    DISCONNECTED,
    FailedConnect,
    LinkLoop,
    MalformedProperties,
    NoChroot,
)
from zc.zk.node_data import encode
from zc.zk.session import Session

RETRY_DELAY = 2.0  # seconds
RECONNECT_TIMEOUT = 10.0  # seconds

_OVERTAKEN = (
    kazoo.exceptions.NoNodeError,
    kazoo.exceptions.NodeExistsError,
    kazoo.exceptions.BadVersionError,
    # The result of the other operations of a transaction of which one failed.
    kazoo.exceptions.RolledBackError,
    kazoo.exceptions.RuntimeInconsistency,
)
"""Raised by operations if another session changed the node first; they are retried."""

logger = logging.getLogger(__name__)


class Registration:
    """An address that stays registered as long as its session, or the next one, is alive."""

    def __init__(  # noqa: PLR0913, PLR0917 -- their meaning is clear
        self,
        session: Session,
        parent: str,
        address: tuple[str, int] | str,
        properties: Mapping[str, Any],
        acl: Any,
        resolve: Callable[[str, Callable[[Any], None] | None], str],
    ) -> None:
        """Raise `ValueError` for an address that cannot be the name of a node.

        :param resolve: finds the node to which `parent` resolves
        """
        self.name = format_addr(address)
        if not self.name or "/" in self.name:
            raise ValueError(f"{self.name!r} cannot be the name of a node")
        self.path = posixpath.join(parent, self.name)
        self._parent = parent
        self._resolve = resolve
        # Nodes created by this registration at paths to which the parent's path resolved before.
        self._left: set[str] = set()
        # One function for all nodes, because kazoo compares watchers.
        self._watcher: Callable[[Any], None] = self._fired
        self._session = session
        self._data = encode({"pid": os.getpid(), **properties})
        # The permission to delete a node belongs to its parent.
        self._acl = acl or (None if session.has_default_acl else READ_ACL_UNSAFE)
        self._lock = threading.RLock()
        self._own_sessions: set[int] = set()
        self._withdrawn = False
        self._logged = ""
        self.registered = threading.Event()

    def register(self) -> None:
        """Create the node before returning.

        Raises `kazoo.exceptions.NoNodeError` if the path does not exist, `NodeExistsError` if
        a node that belongs to no session has this name, and `FailedConnect` if the connection
        is lost and not restored in time; then nothing stays registered.
        """
        self._follow()
        try:
            with self._lock, contextlib.suppress(*DISCONNECTED):
                self._make()
                if not self.registered.is_set():
                    raise kazoo.exceptions.NodeExistsError(self._logged)  # noqa: TRY301
            if not self.registered.wait(RECONNECT_TIMEOUT):
                lost = f"{self._session.connection_string}: connection lost"
                raise FailedConnect(lost)  # noqa: TRY301 -- so that nothing stays
        except BaseException:
            self.withdraw()
            raise

    @property
    def problem(self) -> str:
        """Why the address is not registered, as logged; empty if it is registered."""
        return self._logged

    def register_later(self) -> None:
        """Create the node in the background as soon as possible; log what prevents it."""
        self._follow()
        self._session.later(self.refresh)

    def _follow(self) -> None:
        self._session.check_process()
        self._session.follow(self)
        self._session.keep(self)

    def withdraw(self) -> None:
        """Delete the node and do not create it again. Does nothing in a forked process."""
        try:
            self._session.check_process()
        except RuntimeError:
            return
        with self._lock:
            self._withdrawn = True
            self.registered.clear()
            self._delete_nodes()

    def _delete_nodes(self) -> None:
        """Delete the nodes; without an answer, this is called again later."""
        if self._session.closed or not self._session.connected:
            return
        self._left.add(self.path)
        self._left -= {path for path in list(self._left) if self._delete_own(path)}
        if self._left:
            self._session.later(self.refresh, RETRY_DELAY)
        else:
            self._session.release(self)

    def refresh(self) -> None:
        """Create the node again if it does not exist, or belongs to another session."""
        with self._lock:
            if self._withdrawn:
                self._delete_nodes()
                return
            if self._session.closed or not self._session.connected:
                return
            try:
                self._make()
            except DISCONNECTED:
                # `refresh` is also called after a reconnection, but the connection may not have
                # been lost.
                self._session.later(self.refresh, RETRY_DELAY)
            except NoChroot as error:
                self.registered.clear()
                self._log_once(f"cannot register {self.path}: {error}")
                self._session.later(self.refresh, RETRY_DELAY)
            except kazoo.exceptions.NoNodeError:
                self.registered.clear()
                self._log_once(f"cannot register {self.path}: its parent does not exist")
                self._session.later(self.refresh, RETRY_DELAY)
            except (kazoo.exceptions.ZookeeperError, LinkLoop, MalformedProperties) as error:
                self.registered.clear()
                self._log_once(f"cannot register {self.path}: {error!r}")
                self._session.later(self.refresh, RETRY_DELAY)

    def _make(self) -> None:
        nodes = self._session.nodes
        before = self.path
        self.path = posixpath.join(self._resolve(self._parent, self._watcher), self.name)
        if self.registered.is_set() and self.path != before:
            logger.info(
                "%s leads elsewhere now: %s is to be %s", self._parent, before, self.path
            )
            self._left.add(before)
        while True:
            session_id = self._session.session_id
            stat = nodes.exists(self.path, watch=self._watcher)
            if stat is None:
                made = self._create()
            elif stat.ephemeralOwner == session_id:
                return self._made(session_id)
            elif self._may_replace(stat):
                made = self._replace(stat)
            else:
                return self._wait_for_turn(stat)
            if made:
                # The next attempt sets the watch, and finds out who owns it.
                self._own_sessions.add(session_id)

    def _create(self) -> bool:
        try:
            self._session.nodes.create(self.path, self._data, acl=self._acl, ephemeral=True)
        except kazoo.exceptions.NodeExistsError:
            return False
        return True

    def _may_replace(self, stat: Any) -> bool:
        """Return whether another session's node is our own, or older than this server."""
        if not stat.ephemeralOwner:
            return False
        return not self._own_sessions or stat.ephemeralOwner in self._own_sessions

    def _replace(self, stat: Any) -> bool:
        results = self._session.nodes.replace(
            self.path, stat.version, self._data, acl=self._acl, ephemeral=True
        )
        errors = [result for result in results if isinstance(result, Exception)]
        for error in errors:
            if not isinstance(error, _OVERTAKEN):
                raise error
        return not errors

    def _made(self, session_id: int) -> None:
        self._own_sessions.add(session_id)
        if not self.registered.is_set() or self._logged:
            logger.info("Registered %s", self.path)
        self._logged = ""
        self.registered.set()
        # Only now, so that clients always find one of the two.
        for path in list(self._left):
            if self._delete_own(path):
                self._left.discard(path)

    def _wait_for_turn(self, stat: Any) -> None:
        # The watch reports its deletion.
        self.registered.clear()
        whose = f"session {stat.ephemeralOwner:#x}" if stat.ephemeralOwner else "no session"
        self._log_once(
            f"cannot register {self.path}: a node of {whose} exists; waiting until it is"
            " removed"
        )

    def _fired(self, event: Any) -> None:  # noqa: ARG002 -- kazoo's signature
        self._session.later(self.refresh)

    def _delete_own(self, path: str) -> bool:
        """Delete a node if it is this session's; return whether the path is free."""
        nodes = self._session.nodes
        try:
            stat = nodes.exists(path)
            if stat is not None and stat.ephemeralOwner == self._session.session_id:
                nodes.delete(path, version=stat.version)
        except kazoo.exceptions.NoNodeError:
            return True
        except (*DISCONNECTED, kazoo.exceptions.ZookeeperError) as error:
            logger.warning("cannot withdraw %s: %r", path, error)
            return False
        return True

    def _log_once(self, text: str) -> None:
        """Log an error unless it repeats the last one."""
        if text != self._logged:
            logger.error("%s", text)
        self._logged = text

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.path}>"
