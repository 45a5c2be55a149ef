"""Moves a running ZEO 6 client between servers.

`ZEO.ClientStorage.ClientStorage.new_addr` is not enough: it leaves a client with a server
that is not among the new addresses, makes those fail who wait for a connection, and forgets
connections that are half made. So what a client has is compared with what it should have,
in the client's own thread, where nothing else happens meanwhile.
"""

from typing import Any

from ZEO.asyncio.client import Protocol
from ZEO.Exceptions import ClientDisconnected

from zc.zk.registered import Address


class ConnectionManager:
    """Shows a client's addresses, as the object of this name in ZEO 3 did."""

    def __init__(self, addresses: list[Address]) -> None:
        self.addresses = addresses

    def __repr__(self) -> str:
        return f"<{type(self).__name__} for {self.addresses!r}>"


class Connections:
    """The connections of a client storage's `ZEO.asyncio.client.ClientThread`."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def follow(self, addresses: list[Address]) -> None:
        """Leave servers at other addresses, and connect to one of these if need be."""
        try:
            self._server.io_call(self._change(list(addresses)))
        except ClientDisconnected:
            return  # it is being closed

    async def _change(self, addresses: list[Address]) -> None:
        io = self._server.client
        if io.closed:
            return
        io.addrs = addresses
        self._leave_withdrawn(io, addresses)
        looks_for_a_better_one = io.operational and io.trying_to_connect()
        if io.protocol is None or looks_for_a_better_one:
            self._connect_to_new(io, addresses)

    @staticmethod
    def _leave_withdrawn(io: Any, addresses: list[Address]) -> None:
        used = io.protocol
        stay = []
        for protocol in io.protocols:
            if protocol.addr in addresses:
                stay.append(protocol)
            elif protocol is not used:
                protocol.close(ClientDisconnected("server withdrawn"))
        io.protocols = stay
        if used is not None and used.addr not in addresses:
            used.close(ClientDisconnected("server withdrawn"))
            io.disconnected(used)

    @staticmethod
    def _connect_to_new(io: Any, addresses: list[Address]) -> None:
        trying = {protocol.addr for protocol in io.protocols if not protocol.closed}
        if io.protocol is not None:
            trying.add(io.protocol.addr)
        io.protocols = [protocol for protocol in io.protocols if not protocol.closed] + [
            Protocol(
                io.loop,
                address,
                io,
                io.storage_key,
                io.read_only,
                io.connect_poll,
                ssl=io.ssl,
                ssl_server_hostname=io.ssl_server_hostname,
            )
            for address in addresses
            if address not in trying
        ]
