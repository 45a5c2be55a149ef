"""Keeps a secondary connected to its primary on a reactor that the caller passes in.

`zc.zrs.secondary` re-exports `SecondaryFactory`, which names that module as its home.
Every method of the factory and the protocol is called in the reactor's thread.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from zc.zrs.twisted_driver.reactor_thread import Address, ReactorThread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zc.zrs._zrs import SecondaryPeer
    from zc.zrs.status.schema import ClientStatus
    from zc.zrs.status.states import SecondaryState
    from zc.zrs.twisted_driver.reactor_thread import Connector, DelayedCall, Reactor, Transport

reactor_logger = logging.getLogger("zc.zrs.reactor")


class Round:
    """The addresses to try one after the other without a pause."""

    def __init__(self, addrs: Sequence[Address]) -> None:
        self.addrs = list(addrs)
        self._untried: list[Address] = []

    def begin(self, addr: Address | None) -> None:
        """Start a round with all addresses except one, which is being tried already."""
        self._untried = [other for other in self.addrs if other != addr]

    def next(self) -> Address | None:
        """Return the next address, None if a pause is due."""
        return self._untried.pop(0) if self._untried else None


class Backoff:
    """The pauses between attempts: exponential up to a limit.

    After a connection is lost, the pause is the limit: the documents of zc.zrs show that, with
    a reactor, the next attempt is made ``reconnect_delay`` seconds later.
    """

    _FIRST = 1.0

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self.reset()

    def reset(self) -> None:
        """Make the next pause short, because there is another primary to try."""
        self._next = min(self._FIRST, self._limit)

    def pause(self) -> float:
        """Return the duration of the next pause, in seconds."""
        pause = self._next
        self._next = min(2 * pause, self._limit)
        return pause

    def session_ended(self) -> None:
        """Record that a connection was established."""
        self._next = self._limit


class SecondaryFactory:
    """Connects to one primary address, repeatedly, until it is closed.

    `try_next_address` is called without a connection, and returns whether the driver has
    switched to another address. `on_valid_data` is called when a primary has sent valid data.
    """

    __module__ = "zc.zrs.secondary"

    noisy = False

    def __init__(
        self,
        reactor: Reactor,
        make_peer: Callable[[str], SecondaryPeer],
        backoff: Backoff,
        keep_alive_delay: float,
    ) -> None:
        self.reactor = reactor
        self.make_peer = make_peer
        self.backoff = backoff
        self.keep_alive_delay = keep_alive_delay
        self.try_next_address: Callable[[], bool] = lambda: False
        self.on_valid_data: Callable[[], object] = lambda: None
        self.protocol: SecondaryProtocol | None = None
        self.closed = False
        self._connecting: Connector | None = None

    def doStart(self) -> None:
        """Log that attempts to connect begin."""
        reactor_logger.info("Starting factory %r", self)

    def doStop(self) -> None:
        """Log that attempts to connect have ended, or pause."""
        reactor_logger.info("Stopping factory %r", self)

    def startedConnecting(self, connector: Connector) -> None:
        """Record an attempt, or stop it if it begins after `close`."""
        if self.closed:
            connector.stopConnecting()
        else:
            self._connecting = connector

    def buildProtocol(self, addr: Any) -> SecondaryProtocol | None:  # noqa: ARG002 - Twisted's
        """Return a protocol for an established connection."""
        self._connecting = None
        return None if self.closed else SecondaryProtocol(self)

    def clientConnectionFailed(self, connector: Connector, reason: object) -> None:  # noqa: ARG002
        """Try another address, or later: the connection was not established."""
        self._connecting = None
        self._connect_later(connector)

    def clientConnectionLost(self, connector: Connector, reason: object) -> None:  # noqa: ARG002
        """Try another address, or later: the connection was lost."""
        self._connect_later(connector)

    def close(self) -> None:
        """Disconnect from the primary for good."""
        self.closed = True
        if self._connecting is not None:
            self._connecting.stopConnecting()
            self._connecting = None
        if self.protocol is not None:
            self.protocol.leave()

    def _connect_later(self, connector: Connector) -> None:
        if not self.closed and not self.try_next_address():
            self.reactor.callLater(self.backoff.pause(), connector.connect)


class SecondaryProtocol:
    """One connection to a primary."""

    __module__ = "zc.zrs.secondary"

    def __init__(self, factory: SecondaryFactory) -> None:
        self.factory = factory
        self._keep_alive_call: DelayedCall | None = None
        self._ended = False
        self._leaving = False

    def makeConnection(self, transport: Transport) -> None:
        """Send the handshake with the position of this secondary."""
        self.transport = transport
        self._peer = self.factory.make_peer(str(transport.getPeer()))
        self.factory.protocol = self
        transport.write(self._peer.connected())
        self._schedule_keep_alive()

    def dataReceived(self, data: bytes) -> None:
        """Apply bytes from the primary, before returning."""
        if self._leaving:
            return
        if not self._peer.receive_data(data):
            self._leaving = True
            self.transport.loseConnection()
        else:
            self.factory.on_valid_data()

    def connectionLost(self, reason: object) -> None:
        """Abort an unfinished transaction."""
        self._end(repr(reason))

    def keep_alive(self) -> None:
        """Send a keep-alive message to the primary, and the routers in between."""
        self.transport.write(self._peer.keep_alive())
        self._schedule_keep_alive()

    def leave(self) -> None:
        """Close the connection; after this returns, the sink is not called any more.

        A transport may report the end of the connection in a later turn of the reactor, when
        the sink may be closed or in use by another connection.
        """
        self._leaving = True
        self.transport.loseConnection()
        self._end("'closed'")

    def _end(self, reason: str) -> None:
        if self._ended:
            return
        self._ended = self._leaving = True
        self.factory.protocol = None
        self.factory.backoff.session_ended()
        if self._keep_alive_call is not None and self._keep_alive_call.active():
            self._keep_alive_call.cancel()
        self._peer.disconnected(reason)

    def _schedule_keep_alive(self) -> None:
        if self.factory.keep_alive_delay > 0:
            self._keep_alive_call = self.factory.reactor.callLater(
                self.factory.keep_alive_delay, self.keep_alive
            )


class TwistedClient:
    """Replicates from a primary to a sink, on a reactor."""

    def __init__(
        self,
        reactor: Reactor,
        addrs: Sequence[Address],
        make_peer: Callable[[str], SecondaryPeer],
        reconnect_delay: float,
        keep_alive_delay: float,
    ) -> None:
        """Start connecting. `make_peer` gets the primary's name, once per connection."""
        self._reactor = reactor
        self._thread = ReactorThread(reactor)
        self._make_peer = make_peer
        self._backoff = Backoff(reconnect_delay)
        self._keep_alive_delay = keep_alive_delay
        self._factory: SecondaryFactory | None = None
        self._closed = False
        self._addr: Address | None = None
        self._round = Round([])
        self.set_addresses(addrs)

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the primary."""
        factory = self._factory
        return factory is not None and factory.protocol is not None

    def status(self) -> ClientStatus:
        """Return only the required keys: a reactor's connections are not counted."""
        connected = self.connected
        state: SecondaryState = "streaming" if connected else "connecting"
        return {"state": "stopped" if self._closed else state, "connected": connected}

    def set_address(self, addr: Address) -> None:
        """Disconnect from the current primary, if any, and connect to this one immediately."""
        self._thread.call(lambda: self._move(addr))

    def set_addresses(
        self,
        addrs: Sequence[Address],
        stay: bool = False,  # noqa: FBT001, FBT002 -- the native client's signature
    ) -> None:
        """Stay with the current primary if it has one of these addresses, else use the first.

        If a primary does not answer, or its connection is lost, the next one is tried; after
        all, there is a pause of at most `reconnect_delay`. With no address and `stay`, the
        connection is kept until it ends.
        """
        self._thread.call(lambda: self._follow(addrs, stay=stay))

    def close(self) -> None:
        """Disconnect and abort an unfinished transaction; the sink is not called afterwards."""
        self._thread.call(self._close)

    def _move(self, addr: Address) -> None:
        self._round = Round([addr])
        self._backoff.reset()
        self._connect(addr)

    def _follow(self, addrs: Sequence[Address], *, stay: bool) -> None:
        before, self._round = self._round, Round(addrs)
        if not addrs:
            if not self._closed and not (stay and self.connected):
                self._leave()
            return
        present = self._addr
        if present not in addrs:
            self._backoff.reset()
            self._connect(addrs[0])
        elif not self.connected and (new := [a for a in addrs if a not in before.addrs]):
            # A long pause may be in progress.
            self._backoff.reset()
            self._connect(new[0])
        self._round.begin(self._addr)

    def _try_next_address(self) -> bool:
        if not self._round.addrs:
            self._leave()
            return True
        addr = self._round.next()
        if addr is None:
            self._round.begin(self._addr)
            return False
        self._connect(addr)
        return True

    def _restart_round(self) -> None:
        # Only now, because a round of primaries that hang up immediately must end in a pause.
        self._round.begin(self._addr)

    def _leave(self) -> None:
        if self._factory is not None:
            self._factory.close()
        self._factory = self._addr = None

    def _connect(self, addr: Address) -> None:
        if self._closed:
            return
        self._leave()
        self._addr = addr
        self._factory = SecondaryFactory(
            self._reactor, self._make_peer, self._backoff, self._keep_alive_delay
        )
        self._factory.try_next_address, self._factory.on_valid_data = (
            self._try_next_address,
            self._restart_round,
        )
        if isinstance(addr, str):
            self._reactor.connectUNIX(addr, self._factory)
        else:
            host, port = addr
            self._reactor.connectTCP(host, port, self._factory)

    def _close(self) -> None:
        self._closed = True
        if self._factory is not None:
            self._factory.close()
