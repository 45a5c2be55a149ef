"""A transport of the test reactor, which is also the other end of the connection."""

from __future__ import annotations

import collections
import hashlib
from typing import TYPE_CHECKING, Any

from doctests.originals.python2 import Z64, dump_header, load_header
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from doctests.originals.reactor import Connector, Reactor

_LENGTH = 4  # bytes, before each message


def native(string: str | bytes) -> bytes:
    """Return the bytes of a string literal of Python 2."""
    return string.encode("latin-1") if isinstance(string, str) else string


def failure(error: type[Exception]) -> Failure:
    """Return the reason that Twisted gives for the end of a connection."""
    return Failure(error())  # type: ignore[no-untyped-call]


class PeerAddress:
    """The address of the other end, as Twisted showed one in 2007."""

    type = "TCP"

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    def __str__(self) -> str:
        return f"IPv4Address({self.type}, {self.host!r}, {self.port})"


class Connection:
    """The common part of both kinds of connection.

    The software uses it as a transport: `write`, `loseConnection`, `getPeer` and the producer's
    methods. The document uses the rest.
    """

    def __init__(self, reactor: Reactor, protocol: Any, peer: PeerAddress) -> None:
        self._reactor = reactor
        self._protocol = protocol
        self._peer = peer
        self._received = b""
        self._messages: collections.deque[bytes] = collections.deque()
        self._producer: Any = None
        self._connected = True
        protocol.makeConnection(self)

    # --- The transport ------------------------------------------------------------------

    def getPeer(self) -> PeerAddress:
        return self._peer

    def write(self, data: bytes) -> None:
        self._reactor.check_thread()
        self._received += data
        while len(self._received) >= _LENGTH:
            end = _LENGTH + int.from_bytes(self._received[:_LENGTH], "big")
            if len(self._received) < end:
                break
            self._messages.append(self._received[_LENGTH:end])
            self._received = self._received[end:]

    def loseConnection(self) -> None:
        self._reactor.check_thread()
        self._lose(failure(ConnectionDone))

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: FBT001
        assert streaming
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    # --- The other end ------------------------------------------------------------------

    def have_data(self) -> bool:
        """Whether a message has arrived."""
        self._reactor.run_calls()
        return bool(self._messages)

    def _read(self) -> bytes:
        self._reactor.wait_until(lambda: bool(self._messages), "a message")
        return self._messages.popleft()

    def _send(self, message: bytes) -> None:
        self._reactor.run_calls()
        self._protocol.dataReceived(len(message).to_bytes(_LENGTH, "big") + message)

    def _lose(self, reason: object) -> None:
        if not self._connected:
            return
        self._connected = False
        if self._producer is not None:
            self._producer.stopProducing()
        self._protocol.connectionLost(reason)


class PrimaryConnection(Connection):
    """A connection to a primary: the document is the secondary."""

    def send(self, message: str | bytes) -> None:
        self._send(native(message))

    def read(self, *, raw: bool = False) -> Any:
        """Wait for a message and return it, unpickled unless `raw`."""
        message = self._read()
        return message if raw else load_header(message)

    def close(self) -> None:
        self._reactor.run_calls()
        self._lose(failure(ConnectionDone))


class SecondaryConnection(Connection):
    """A connection from a secondary: the document is the primary."""

    def __init__(
        self, reactor: Reactor, protocol: Any, peer: PeerAddress, connector: Connector
    ) -> None:
        super().__init__(reactor, protocol, peer)
        self._connector = connector
        self.init_md5(Z64)

    def init_md5(self, tid: str | bytes) -> None:
        self.md5 = hashlib.md5(native(tid), usedforsecurity=False)

    def read(self) -> bytes:
        return self._read()

    def send(self, message: Any, *, raw: bool = False) -> None:
        """Send a message: a header to pickle, or `raw` bytes (None for no data)."""
        data = native(message or b"") if raw else dump_header(message)
        self.md5.update(data)
        self._send(data)

    def fail(self) -> None:
        """Break the connection."""
        self._reactor.run_calls()
        self._lose("failed")
        self._connector.connection_lost("failed")
