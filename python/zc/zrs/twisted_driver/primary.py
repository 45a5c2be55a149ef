"""Serves a primary's feed on a reactor that the caller passes in.

`zc.zrs.primary` re-exports `PrimaryFactory`, which names that module as its home.
Every method of the factory and the protocol is called in the reactor's thread.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Literal

from zc.zrs._zrs import Feed, PrimaryPeer, TransactionStream
from zc.zrs.system.unix_socket import keep_other_files, socket_identity
from zc.zrs.twisted_driver.reactor_thread import REACTOR_TIMEOUT, Address, Port, ReactorThread
from zc.zrs.twisted_driver.stream_pump import StreamPump

if TYPE_CHECKING:
    from collections.abc import Callable

    from zc.zrs.status.schema import PeerStatus, ServerStatus
    from zc.zrs.twisted_driver.reactor_thread import DelayedCall, Reactor, Transport

    WirePickles = Literal["python2", "python3"]

DRAIN_TIME = 1.0
"""Maximum seconds for which a close in the reactor's own thread blocks the reactor."""


class PrimaryFactory:
    """Creates a protocol for each connection of a secondary, and keeps a list of them."""

    __module__ = "zc.zrs.primary"

    noisy = False

    def __init__(self, reactor: Reactor, feed: Feed, wire_pickles: WirePickles) -> None:
        self.reactor = reactor
        self.feed = feed
        self.wire_pickles = wire_pickles
        self.protocols: set[PrimaryProtocol] = set()
        self.closing = False
        self.emptied: Callable[[], None] = lambda: None

    def doStart(self) -> None:
        """Do nothing: a feed needs no start."""

    def doStop(self) -> None:
        """Do nothing: the server finishes the feed."""

    def buildProtocol(self, addr: Any) -> PrimaryProtocol | None:  # noqa: ARG002 - Twisted's
        """Return a protocol for a new connection, None to refuse it when closing."""
        return None if self.closing else PrimaryProtocol(self)

    def forget(self, protocol: PrimaryProtocol) -> None:
        """Remove a connection that has ended."""
        self.protocols.discard(protocol)
        if not self.protocols:
            self.emptied()


class PrimaryProtocol:
    """One connection of a secondary."""

    __module__ = "zc.zrs.primary"

    def __init__(self, factory: PrimaryFactory) -> None:
        self.factory = factory
        self._stream: TransactionStream | None = None
        self._pump: StreamPump | None = None
        self._closing = False

    def makeConnection(self, transport: Transport) -> None:
        """Start on the connected `transport`."""
        self.transport = transport
        self._name = str(transport.getPeer())
        feed = self.factory.feed
        self._peer = PrimaryPeer(self._name, feed.ships_blobs, feed)
        self.factory.protocols.add(self)
        self._peer.connected()

    def dataReceived(self, data: bytes) -> None:
        """Process bytes from the secondary."""
        if self._closing:
            return
        self._peer.receive_data(data)
        while (event := self._peer.next_event()) is not None:
            match event:
                case "start", tid:
                    self._start(tid)
                case "capability_offered", None:
                    if self._stream is not None:
                        self._stream.capability_offered()
                case "list", after:
                    if self._stream is not None:
                        self._stream.list(after)
                case "diverged", tid:
                    self._peer.diverged(self.factory.feed, tid)
                    self.close()
                case _:
                    self.close()
            if self._closing:
                return

    def status(self) -> PeerStatus:
        """Return the state of the connection: only the required keys."""
        return {"peer": self._name, "state": "handshake" if self._pump is None else "streaming"}

    def connectionLost(self, reason: object) -> None:
        """End the stream: nothing can be written any more."""
        self._closing = True
        if self._pump is not None:
            self._pump.stop()
        self._peer.disconnected(repr(reason))
        self.factory.forget(self)

    def close(self) -> None:
        """Close the connection after what was written has been sent."""
        if self._closing:
            return
        self._closing = True
        if self._pump is not None:
            self._pump.stop()
            if hasattr(self.transport, "unregisterProducer"):
                self.transport.unregisterProducer()
        self._peer.closed()
        self.transport.loseConnection()

    def abort(self) -> None:
        """Close the connection immediately."""
        self.close()
        getattr(self.transport, "abortConnection", self.transport.loseConnection)()

    def finish(self, until: float | None) -> None:
        """Send the rest of the finished feed, and close the connection.

        With `until`, a time of the monotonic clock, as much as possible is sent before this
        returns. Data that the transport does not accept yet follows in later turns of the
        reactor.
        """
        if self._pump is None:
            self.close()
        elif until is not None:
            self._pump.drain(until)

    def _start(self, tid: bytes) -> None:
        try:
            stream = TransactionStream(
                self.factory.feed, tid, self.factory.wire_pickles, self._name
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, this connection ends
            self._stream_ended(error)
            return
        if self._peer.capability_offered:
            stream.capability_offered()
        self._stream = stream
        self._pump = StreamPump(
            self.factory.reactor, stream, self.transport, self._stream_ended
        )
        if hasattr(self.transport, "registerProducer"):
            self.transport.registerProducer(self._pump, True)  # noqa: FBT003 - Twisted's
        self._pump.start(f"zrs stream to {self._name}")

    def _stream_ended(self, failure: Exception | None) -> None:
        if failure is not None:
            self._peer.stream_failed(str(failure) or repr(failure))
        self.close()


class TwistedServer:
    """Listens on a reactor for the secondaries of a feed."""

    def __init__(
        self, reactor: Reactor, addr: Address, feed: Feed, wire_pickles: WirePickles
    ) -> None:
        """Listen. Raises the reactor's exceptions if the reactor already runs or never will."""
        self._reactor = reactor
        self._thread = ReactorThread(reactor)
        self._addr = addr
        self._factory = PrimaryFactory(reactor, feed, wire_pickles)
        self._factory.emptied = self._emptied
        self._deadline_call: DelayedCall | None = None
        self._all_gone = threading.Event()
        self._closed = False
        self._port: Port = self._thread.call(self._listen)
        self._socket = socket_identity(addr) if isinstance(addr, str) else None

    @property
    def address(self) -> Address:
        """The bound address."""
        if isinstance(self._addr, str):
            return self._addr
        host = self._port.getHost()
        return (host.host, host.port)

    @property
    def connections(self) -> int:
        """The number of connected secondaries."""
        return len(self._factory.protocols)

    def status(self) -> ServerStatus:
        """Return only the required keys: a reactor's connections are not counted."""
        peers = [protocol.status() for protocol in list(self._factory.protocols)]
        return {
            "state": "stopped" if self._closed else "listening",
            "address": self.address,
            "tid": f"0x{self._factory.feed.tid.hex()}",
            "connections": len(peers),
            "file_replaced": self._factory.feed.is_displaced(),
            "peers": peers,
        }

    def close(self, deadline: float = 10.0) -> None:
        """Stop listening, finish the feed, and close the connections.

        A connection that sends everything within `deadline` seconds is closed afterwards. In
        the reactor's own thread, this returns before the last bytes are sent.
        """
        if self._closed:
            return
        self._closed = True
        if self._thread.inside():
            self._stop_listening()
            self._finish(time.monotonic() + min(deadline, DRAIN_TIME))
            if self._factory.protocols and deadline > 0:
                self._deadline_call = self._reactor.callLater(deadline, self._abort)
            elif self._factory.protocols:
                self._abort()
            return
        port_closed = self._thread.call(self._stop_listening)
        self._thread.call(lambda: self._finish(None))
        port_closed.wait(REACTOR_TIMEOUT)
        if not self._all_gone.wait(deadline):
            self._thread.call(self._abort)
            self._all_gone.wait(REACTOR_TIMEOUT)

    def _listen(self) -> Port:
        port: Port
        if isinstance(self._addr, str):
            port = self._reactor.listenUNIX(self._addr, self._factory)
        else:
            host, number = self._addr
            port = self._reactor.listenTCP(number, self._factory, interface=host)
        return port

    def _stop_listening(self) -> threading.Event:
        """Close the port; the event is set when it is closed."""
        closed = threading.Event()
        spared = contextlib.ExitStack()
        if isinstance(self._addr, str):
            # Twisted removes the path when the port is closed, which may be later.
            spared.enter_context(keep_other_files(self._addr, self._socket))

        def end(_: object) -> None:
            spared.close()
            closed.set()

        result = self._port.stopListening()
        if hasattr(result, "addBoth"):  # a Deferred
            result.addBoth(end)
        else:
            end(result)
        return closed

    def _finish(self, until: float | None) -> None:
        self._factory.closing = True
        self._factory.feed.finish()
        for protocol in list(self._factory.protocols):
            protocol.finish(until)
        if not self._factory.protocols:
            self._emptied()

    def _abort(self) -> None:
        for protocol in list(self._factory.protocols):
            protocol.abort()

    def _emptied(self) -> None:
        if not self._factory.closing:
            return
        self._all_gone.set()
        if self._deadline_call is not None and self._deadline_call.active():
            self._deadline_call.cancel()
