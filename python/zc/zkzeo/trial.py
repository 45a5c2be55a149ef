"""Finds out whether another ZEO server would accept a client, without moving it there."""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

from ZEO.asyncio.client import Fallback

from zc.zk.registered import Address
from zc.zkzeo.dialing import dial

TRIAL_TIMEOUT = 5.0
"""Timeout for servers to accept the client, in seconds."""


async def accepted_by_any(io: Any, addresses: Iterable[Address]) -> bool:
    """Return whether a server at one of these addresses would accept a client.

    Such a server has the storage, is not behind the client's cache, and is writable if the
    client's current server is and the client prefers writable servers.

    :param io: the client's `ZEO.asyncio.client.ClientIO`; only called in its loop
    """
    trial = _Trial(io)
    protocols = [dial(io, address, trial) for address in addresses]
    trial.pending = len(protocols)
    try:
        await asyncio.wait([trial.result], timeout=TRIAL_TIMEOUT)
        return trial.result.done() and trial.result.result()
    finally:
        for protocol in protocols:
            protocol.close()


class _Trial:
    """Takes the place of a client in the connections of a trial."""

    # Makes connections queue invalidations instead of applying them.
    ready = False

    def __init__(self, io: Any) -> None:
        self._io = io
        self.register_lock = contextlib.nullcontext()  # servers need not wait for each other
        self.closing_protocol_futures = io.closing_protocol_futures
        self.result: asyncio.Future[bool] = io.loop.create_future()
        self.pending = 0

    async def register(self, protocol: Any, server_tid: bytes | None) -> None:
        """Check a server that has the storage."""
        try:
            if server_tid is None:
                server_tid = await protocol.server_call("lastTransaction")
        except Exception:  # noqa: BLE001 -- whatever it is, this server is not accepted
            self._refused()
            return
        used = self._io.protocol
        is_worse = (
            self._io.read_only is Fallback
            and protocol.read_only
            and used is not None
            and not used.read_only
        )
        if is_worse or (self._io.cache.getLastTid() or b"") > (server_tid or b""):
            self._refused()
        elif not self.result.done():
            self.result.set_result(True)

    def register_failed(self, protocol: Any, exc: Exception) -> None:  # noqa: ARG002
        """Count a server that refuses the client."""
        self._refused()

    def disconnected(self, protocol: Any) -> None:  # noqa: ARG002
        """Count a server that ends the connection."""
        self._refused()

    def _refused(self) -> None:
        self.pending -= 1
        if self.pending == 0 and not self.result.done():
            self.result.set_result(False)
