"""Moves a running ZEO 6 client between servers.

`ZEO.ClientStorage.ClientStorage.new_addr` is not enough: it leaves a client connected to a
server that is not among the new addresses, makes calls fail that wait for a connection, and
loses connections that are being made. This module therefore compares the connections of a
client with the addresses, in the client's own thread, where nothing else runs in the meantime.
A server that is no longer registered is left as `zc.zkzeo.departure` describes.
"""

import contextlib
from collections.abc import Coroutine
from typing import Any

from ZEO.Exceptions import ClientDisconnected

from zc.zk.registered import Address
from zc.zkzeo.commit_gate import CommitGate
from zc.zkzeo.departure import Departure
from zc.zkzeo.dialing import dial
from zc.zkzeo.upgrade import Upgrades


class ConnectionManager:
    """Has a client's addresses, like the class of this name in ZEO 3."""

    def __init__(self, addresses: list[Address]) -> None:
        self.addresses = addresses

    def __repr__(self) -> str:
        return f"<{type(self).__name__} for {self.addresses!r}>"


class Connections:
    """The connections of a client storage's `ZEO.asyncio.client.ClientThread`."""

    def __init__(self, server: Any, gate: CommitGate) -> None:
        self._server = server
        self._gate = gate
        self._departure: Departure | None = None
        self._upgrades = Upgrades(server.client)

    def follow(self, addresses: list[Address]) -> None:
        """Connect to a server at one of these addresses; leave any other one when possible."""
        self._run(self._change(list(addresses)))

    def close(self) -> None:
        """Stop following addresses."""
        self._run(self._end())

    def _run(self, change: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the client's thread, unless the client is closed."""
        with contextlib.closing(change), contextlib.suppress(ClientDisconnected):
            self._server.io_call(change)

    async def _end(self) -> None:
        await self._end_departure()
        self._upgrades.close()

    async def _end_departure(self) -> None:
        if self._departure is not None:
            self._departure.cancel()
            self._departure = None

    async def _change(self, addresses: list[Address]) -> None:
        io = self._server.client
        if io.closed:
            return
        io.addrs = addresses
        self._cancel_withdrawn(io, addresses)
        used = io.protocol
        if used is not None and used.addr not in addresses:
            await self._depart(io)
        looks_for_a_better_one = io.operational and io.trying_to_connect()
        if io.protocol is None or looks_for_a_better_one:
            self._connect_to_new(io, addresses)

    async def _depart(self, io: Any) -> None:
        if self._departure is not None and self._departure.is_from(io.protocol):
            self._departure.addresses_changed()
            return
        await self._end_departure()
        self._departure = Departure(io, self._gate)

    @staticmethod
    def _cancel_withdrawn(io: Any, addresses: list[Address]) -> None:
        """End attempts to connect to servers that are no longer registered."""
        stay = []
        for protocol in io.protocols:
            if protocol.addr in addresses or protocol is io.protocol:
                stay.append(protocol)
            else:
                protocol.close(ClientDisconnected("server withdrawn"))
        io.protocols = stay

    @staticmethod
    def _connect_to_new(io: Any, addresses: list[Address]) -> None:
        trying = {protocol.addr for protocol in io.protocols if not protocol.closed}
        if io.protocol is not None:
            trying.add(io.protocol.addr)
        io.protocols = [protocol for protocol in io.protocols if not protocol.closed] + [
            dial(io, address, io) for address in addresses if address not in trying
        ]
