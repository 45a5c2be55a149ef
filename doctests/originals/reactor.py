"""A reactor without network and time, controlled by the document.

It runs in the thread that created it. Calls from other threads wait until the document waits
for something, so that the document determines the order of events.
"""

from __future__ import annotations

import collections
import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doctests.originals.connection import (
    PeerAddress,
    PrimaryConnection,
    SecondaryConnection,
    failure,
)
from twisted.internet.error import ConnectionRefusedError as RefusedError
from twisted.internet.error import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_PORT = 47245
WAIT = 60.0
"""Seconds until a wait for another thread fails. A busy machine may need some."""


@dataclass(eq=False, repr=False)
class DelayedCall:
    """A call that `Reactor.doLater` will make."""

    reactor: Reactor
    number: int
    delay: float
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __repr__(self) -> str:
        name = self.func.__name__
        return f"<{self.number} {self.delay:g} {name} {self.args} {self.kwargs}>"

    def active(self) -> bool:
        return self in self.reactor.later

    def cancel(self) -> None:
        self.reactor.later.remove(self)

    def call(self) -> None:
        self.func(*self.args, **self.kwargs)


class Connector:
    """A client's pending connection, with the states of Twisted's connectors."""

    def __init__(self, reactor: Reactor, factory: Any) -> None:
        self._reactor = reactor
        self._factory = factory
        self._state = "disconnected"

    def connect(self) -> None:
        assert self._state == "disconnected", self._state
        self._state = "connecting"
        self._factory.doStart()
        self._reactor.clients.append(self)
        self._factory.startedConnecting(self)

    def stopConnecting(self) -> None:
        assert self._state == "connecting", self._state
        self._reactor.clients.remove(self)
        self.connection_failed(failure(UserError))

    def accepted(self, peer: PeerAddress) -> SecondaryConnection:
        self._state = "connected"
        protocol = self._factory.buildProtocol(peer)
        return SecondaryConnection(self._reactor, protocol, peer, self)

    def connection_failed(self, reason: object) -> None:
        self._disconnected(self._factory.clientConnectionFailed, reason)

    def connection_lost(self, reason: object) -> None:
        self._disconnected(self._factory.clientConnectionLost, reason)

    def _disconnected(self, tell: Callable[[Connector, object], Any], reason: object) -> None:
        self._state = "disconnected"
        tell(self, reason)
        if self._state == "disconnected":
            self._factory.doStop()


class Port:
    """A port that `Reactor.connect` can connect to."""

    def __init__(self, reactor: Reactor, addr: tuple[str, int], factory: Any) -> None:
        self._reactor = reactor
        self._addr = addr
        self.factory = factory
        reactor.ports[addr] = self
        factory.doStart()

    def getHost(self) -> PeerAddress:
        return PeerAddress(*self._addr)

    def stopListening(self) -> None:
        del self._reactor.ports[self._addr]
        self.factory.doStop()


class Reactor:
    """The document's reactor."""

    def __init__(self) -> None:
        self.later: list[DelayedCall] = []
        self.clients: list[Connector] = []
        self.ports: dict[tuple[str, int], Port] = {}
        self._calls: queue.SimpleQueue[tuple[Callable[..., Any], Any]] = queue.SimpleQueue()
        self._delayed = 0
        self._connections = 0
        self._thread = threading.get_ident()

    # --- Used by the software ---------------------------------------------------------

    def listenTCP(self, port: int, factory: Any, *, interface: str = "") -> Port:
        self.check_thread()
        return Port(self, (interface, port), factory)

    def connectTCP(self, host: str, port: int, factory: Any) -> Connector:  # noqa: ARG002
        self.check_thread()
        connector = Connector(self, factory)
        connector.connect()
        return connector

    def callLater(
        self, delay: float, func: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> DelayedCall:
        self.check_thread()
        self._delayed += 1
        call = DelayedCall(self, self._delayed, delay, func, args, kwargs)
        self.later.append(call)
        return call

    def callFromThread(self, func: Callable[..., Any], *args: Any) -> None:
        if threading.get_ident() == self._thread:
            func(*args)
        else:
            self._calls.put((func, args))

    # --- Used by the document ---------------------------------------------------------

    def connect(self, addr: tuple[str, int]) -> PrimaryConnection:
        """Connect to a primary that listens."""
        self.run_calls()
        peer = self._next_peer()
        return PrimaryConnection(self, self.ports[addr].factory.buildProtocol(peer), peer)

    def accept(self) -> SecondaryConnection:
        """Accept the connection that a secondary waits for."""
        self.run_calls()
        return self.clients.pop(0).accepted(self._next_peer())

    def reject(self) -> None:
        """Reject the connection that a secondary waits for."""
        self.run_calls()
        self.clients.pop(0).connection_failed(failure(RefusedError))

    def doLater(self) -> None:
        """Make the delayed calls, as if their time had come."""
        self.run_calls()
        calls = collections.deque(self.later)
        self.later.clear()
        while calls:
            calls.popleft().call()

    # --- Used by the connections -------------------------------------------------------

    def check_thread(self) -> None:
        """Fail if the software uses the reactor from a wrong thread."""
        if threading.get_ident() != self._thread:
            raise AssertionError("the reactor was used outside its thread")

    def run_calls(self) -> None:
        """Make the pending calls from threads."""
        while not self._calls.empty():
            func, args = self._calls.get()
            func(*args)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Make calls from threads until a condition is true."""
        deadline = time.monotonic() + WAIT
        while not condition():
            try:
                func, args = self._calls.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"{what} did not arrive within {WAIT:g} seconds") from None
            func(*args)

    def _next_peer(self) -> PeerAddress:
        port = FIRST_PORT + self._connections
        self._connections += 1
        return PeerAddress("127.0.0.1", port)
