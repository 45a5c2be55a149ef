"""Opens connections to ZEO servers with the options of an existing client."""

from typing import Any

from ZEO.asyncio.client import Protocol

from zc.zk.registered import Address


def dial(io: Any, address: Address, owner: Any) -> Protocol:
    """Start connecting to a server.

    :param io: the client's `ZEO.asyncio.client.ClientIO`; only called in its loop
    :param owner: the object to which the connection reports: `io`, or a replacement
    """
    return Protocol(
        io.loop,
        address,
        owner,
        io.storage_key,
        io.read_only,
        io.connect_poll,
        ssl=io.ssl,
        ssl_server_hostname=io.ssl_server_hostname,
    )
