"""The end of a ZEO server's connections when it shuts down.

Clients that follow ZooKeeper leave by themselves when the server is no longer registered. The
others are disconnected before the server's loop ends, because they would not notice its end.
"""

import asyncio
import concurrent.futures
import logging
import time
from typing import Any

LEAVE_TIMEOUT = 1.0
"""Maximum seconds to wait for clients to leave by themselves."""

CLOSE_TIMEOUT = 5.0
POLL = 0.01

logger = logging.getLogger(__name__)


def wait_until_left(server: Any) -> None:
    """Wait until no client is connected, with a short timeout."""
    end = time.monotonic() + LEAVE_TIMEOUT
    while _clients(server) and time.monotonic() < end:
        time.sleep(POLL)


def close_connections(server: Any) -> None:
    """Stop accepting connections, and close the existing ones."""

    async def close() -> None:
        acceptor = server.acceptor
        if acceptor.server is not None:
            acceptor.server.close()
        connections = [zeo_storage.connection for zeo_storage in _clients(server)]
        for connection in connections:
            connection.close()
        closing = [c.closing for c in connections if c.closing is not None]
        if closing:
            await asyncio.wait(closing, timeout=CLOSE_TIMEOUT)

    closed = asyncio.run_coroutine_threadsafe(close(), server.acceptor.event_loop)
    try:
        closed.result(2 * CLOSE_TIMEOUT)
    except concurrent.futures.TimeoutError:
        logger.warning("the connections to the clients cannot be closed")


def _clients(server: Any) -> list[Any]:
    return [
        zeo_storage
        for zeo_storages in list(server.zeo_storages_by_storage_id.values())
        for zeo_storage in list(zeo_storages)
        if zeo_storage.connection is not None
    ]
