"""Keeps a secondary connected to its primary on a reactor that the caller passes in.

`zc.zrs.secondary` re-exports `SecondaryFactory`, which names that module as its home.
Every method of the factory and the protocol is called in the reactor's thread.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from zc.zrs.twisted_reactor import Address, ReactorThread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zc.zrs._zrs import SecondaryPeer
    from zc.zrs.twisted_reactor import Connector, DelayedCall, Reactor, Transport

reactor_logger = logging.getLogger("zc.zrs.reactor")


class SecondaryFactory:
    """Connects to one primary address, again and again, until it is closed."""

    __module__ = "zc.zrs.secondary"

    noisy = False

    def __init__(
        self,
        reactor: Reactor,
        make_peer: Callable[[str], SecondaryPeer],
        reconnect_delay: float,
        keep_alive_delay: float,
    ) -> None:
        self.reactor = reactor
        self.make_peer = make_peer
        self.reconnect_delay = reconnect_delay
        self.keep_alive_delay = keep_alive_delay
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
        """Take note of an attempt, or give it up if it comes after `close`."""
        if self.closed:
            connector.stopConnecting()
        else:
            self._connecting = connector

    def buildProtocol(self, addr: Any) -> SecondaryProtocol | None:  # noqa: ARG002 - Twisted's
        """Return a protocol for the connection that was made."""
        self._connecting = None
        return None if self.closed else SecondaryProtocol(self)

    def clientConnectionFailed(self, connector: Connector, reason: object) -> None:  # noqa: ARG002
        """Try again later: no connection was made."""
        self._connecting = None
        self._connect_later(connector)

    def clientConnectionLost(self, connector: Connector, reason: object) -> None:  # noqa: ARG002
        """Try again later: the connection is gone."""
        self._connect_later(connector)

    def close(self) -> None:
        """Leave the primary, and do not come back."""
        self.closed = True
        if self._connecting is not None:
            self._connecting.stopConnecting()
            self._connecting = None
        if self.protocol is not None:
            self.protocol.leave()

    def _connect_later(self, connector: Connector) -> None:
        if not self.closed:
            self.reactor.callLater(self.reconnect_delay, connector.connect)


class SecondaryProtocol:
    """One connection to a primary."""

    __module__ = "zc.zrs.secondary"

    def __init__(self, factory: SecondaryFactory) -> None:
        self.factory = factory
        self._keep_alive_call: DelayedCall | None = None
        self._ended = False
        self._leaving = False

    def makeConnection(self, transport: Transport) -> None:
        """Begin: say what this secondary has."""
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

    def connectionLost(self, reason: object) -> None:
        """End: abort what is unfinished."""
        self._end(repr(reason))

    def keep_alive(self) -> None:
        """Tell the primary, and what lies between, that the connection is in use."""
        self.transport.write(self._peer.keep_alive())
        self._schedule_keep_alive()

    def leave(self) -> None:
        """Close the connection; when this returns, the sink is left alone for good.

        A transport reports the end of the connection at once or in a later turn of the
        reactor, when the sink may be closed or another connection's.
        """
        self._leaving = True
        self.transport.loseConnection()
        self._end("'closed'")

    def _end(self, reason: str) -> None:
        if self._ended:
            return
        self._ended = self._leaving = True
        self.factory.protocol = None
        if self._keep_alive_call is not None and self._keep_alive_call.active():
            self._keep_alive_call.cancel()
        self._peer.disconnected(reason)

    def _schedule_keep_alive(self) -> None:
        if self.factory.keep_alive_delay > 0:
            self._keep_alive_call = self.factory.reactor.callLater(
                self.factory.keep_alive_delay, self.keep_alive
            )


class TwistedClient:
    """Keeps a sink up to date from a primary, on a reactor."""

    def __init__(
        self,
        reactor: Reactor,
        addrs: Sequence[Address],
        make_peer: Callable[[str], SecondaryPeer],
        reconnect_delay: float,
        keep_alive_delay: float,
    ) -> None:
        """Begin to connect. `make_peer` gets the primary's name, once per connection."""
        self._reactor = reactor
        self._thread = ReactorThread(reactor)
        self._make_peer = make_peer
        self._reconnect_delay = reconnect_delay
        self._keep_alive_delay = keep_alive_delay
        self._factory: SecondaryFactory | None = None
        self._closed = False
        self._addr: Address | None = None
        self.set_addresses(addrs)

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the primary."""
        factory = self._factory
        return factory is not None and factory.protocol is not None

    def status(self) -> dict[str, Any]:
        """Return what is known here: what a reactor does is not counted."""
        connected = self.connected
        state = "streaming" if connected else "connecting"
        return {"state": "stopped" if self._closed else state, "connected": connected}

    def set_address(self, addr: Address) -> None:
        """Leave the present primary, if any, and connect to this one at once."""
        self._thread.call(lambda: self._connect(addr))

    def set_addresses(self, addrs: Sequence[Address]) -> None:
        """Stay with the present primary if it is at one of these, else go to the first."""
        self._thread.call(lambda: self._follow(addrs))

    def close(self) -> None:
        """Disconnect and abort an unfinished transaction; the sink is left alone then."""
        self._thread.call(self._close)

    def _follow(self, addrs: Sequence[Address]) -> None:
        if addrs and self._addr not in addrs:
            self._connect(addrs[0])
        elif not addrs and not self._closed:
            self._leave()

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
            self._reactor, self._make_peer, self._reconnect_delay, self._keep_alive_delay
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
