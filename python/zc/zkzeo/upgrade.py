"""The move of a client from a read-only server to a writable one without failing pending calls.

With `read_only_fallback`, ZEO's client closes the connection to the read-only server as soon as
a writable one accepts it (`ZEO.asyncio.client.ClientIO.upgrade`); calls that wait for an answer
raise `ClientDisconnected: Closed`. This module waits for their answers first. Such calls only
read, because a read-only server refuses all others.

Everything here runs in the loop of the client's own thread.
"""

from typing import Any

from ZEO.Exceptions import ClientDisconnected

ANSWER_TIMEOUT = 60.0
"""Maximum seconds to wait for a former server's pending answers."""


class Upgrades:
    """Replaces the `upgrade` of a `ZEO.asyncio.client.ClientIO`."""

    def __init__(self, io: Any) -> None:
        self._io = io
        self._former: set[Any] = set()
        io.upgrade = self._upgrade

    def close(self) -> None:
        """Close the connections that still wait for answers."""
        for protocol in list(self._former):
            self._close(protocol)

    def _upgrade(self, protocol: Any) -> None:
        """Use another connection; the former one is closed when no call is pending."""
        io = self._io
        former = io.protocol
        io.ready = io.operational = False
        io.manage_connected()
        io.protocol = protocol
        io.protocols = [other for other in io.protocols if other is not former]
        io._clear_protocols(protocol)  # noqa: SLF001 -- as in ZEO's own
        former.client = _Former(io)
        self._former.add(former)
        for call in list(former.futures.values()):
            call.add_done_callback(lambda _: self._answered(former))
        self._answered(former)
        late = ClientDisconnected("the previous server does not answer")
        io.loop.call_later(ANSWER_TIMEOUT, self._close, former, late)

    def _answered(self, protocol: Any) -> None:
        if not protocol.futures:
            # Not inside the connection's own method that delivers the answer.
            self._io.loop.call_soon(self._close, protocol)

    def _close(self, protocol: Any, reason: Exception | None = None) -> None:
        self._former.discard(protocol)
        protocol.close(reason)


class _Former:
    """Takes the place of the client in a former connection."""

    # Makes the connection queue invalidations: those of the new server count.
    ready = False

    def __init__(self, io: Any) -> None:
        self.closing_protocol_futures = io.closing_protocol_futures
        self.receiveBlobStart = io.receiveBlobStart
        self.receiveBlobChunk = io.receiveBlobChunk
        self.receiveBlobStop = io.receiveBlobStop
        self.cache = self

    def store(self, *record: Any) -> None:
        """Keep nothing in the cache: the new server may have a later revision."""

    def info(self, info: Any) -> None:
        """Ignore the former server's description of its storage."""

    def disconnected(self, protocol: Any) -> None:
        """Do nothing: its calls have failed, and the client has another connection."""
