"""How a client leaves a ZEO server that is no longer registered.

A registration can disappear although its server works: only the server has lost ZooKeeper, or
someone has deleted the node. A client therefore stays while the server answers, until another
registered server accepts the client. It then leaves between two commits, when no call is
pending: a connection that ends during `tpc_finish` leaves the caller in doubt whether the
transaction was committed.

Everything here runs in the loop of the client's own thread.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ZEO.Exceptions import ClientDisconnected

from zc.zkzeo.commit_gate import CommitGate
from zc.zkzeo.trial import accepted_by_any

if TYPE_CHECKING:
    from zc.zk.registered import Address

PING_INTERVAL = 1.0
"""Seconds between two checks of a server that is no longer registered."""

PING_TIMEOUT = 10.0
"""Seconds without an answer after which such a server is left, even during a commit."""

DRAIN_TIMEOUT = 1.0
"""Maximum seconds for which new calls wait until the pending ones have been answered."""

MOVE_TIMEOUT = 10.0
"""Maximum seconds for which new commits wait for the connection to the next server."""

RETRY_DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds after which servers that did not accept the client are tried again."""

POLL = 0.01

logger = logging.getLogger(__name__)


class Departure:
    """Disconnects a client from its server as soon as no call or commit would be lost.

    :param io: the client's `ZEO.asyncio.client.ClientIO`
    :param gate: delays the storage's commits
    """

    def __init__(self, io: Any, gate: CommitGate) -> None:
        self._io = io
        self._gate = gate
        self._protocol = io.protocol
        self._ping: Any = None
        self._changed = asyncio.Event()
        self._tasks = [io.loop.create_task(self._watch()), io.loop.create_task(self._run())]

    def is_from(self, protocol: Any) -> bool:
        """Return whether this is the connection to be closed."""
        return protocol is self._protocol

    def addresses_changed(self) -> None:
        """Try immediately which server accepts the client."""
        self._changed.set()

    def cancel(self) -> None:
        """Stop: the client stays, or something else disconnects it."""
        for task in self._tasks:
            task.cancel()

    @property
    def _is_due(self) -> bool:
        io = self._io
        return (
            not io.closed
            and io.protocol is self._protocol
            and not self._protocol.closed
            and self._protocol.addr not in io.addrs
        )

    async def _watch(self) -> None:
        """Leave immediately if the server does not answer."""
        while self._is_due:
            if self._io.operational and not await self._answers():
                if self._is_due:
                    logger.warning(
                        "the ZEO server %s is not registered and does not answer;"
                        " disconnecting",
                        self._protocol.addr,
                    )
                    self._protocol.close(ClientDisconnected("the server does not answer"))
                    self._io.disconnected(self._protocol)
                return
            await asyncio.sleep(PING_INTERVAL)

    async def _answers(self) -> bool:
        answered = self._io.loop.create_future()
        self._ping = self._protocol.server_call("ping")
        self._ping.add_done_callback(lambda _: answered.done() or answered.set_result(None))
        done, _ = await asyncio.wait([answered], timeout=PING_TIMEOUT)
        return bool(done)

    async def _run(self) -> None:
        delays = iter(RETRY_DELAYS)
        delay = RETRY_DELAYS[-1]
        while self._is_due:
            self._changed.clear()
            addresses: list[Address] = list(self._io.addrs)
            if addresses and self._io.operational:
                if await accepted_by_any(self._io, addresses):
                    await self._move()
                    delays = iter(RETRY_DELAYS)
                delay = next(delays, RETRY_DELAYS[-1])
            elif addresses:
                delay = POLL  # the connection is being completed
            if self._is_due:
                await self._wait_for_change(delay)
                if self._changed.is_set():
                    delays = iter(RETRY_DELAYS)

    async def _wait_for_change(self, timeout: float) -> None:
        waiting = self._io.loop.create_task(self._changed.wait())
        try:
            await asyncio.wait([waiting], timeout=timeout)
        finally:
            waiting.cancel()

    async def _move(self) -> None:
        """Leave between two commits when no call is pending; stay if calls take too long."""
        io = self._io
        self._gate.close()
        try:
            await self._wait(
                lambda: not self._is_due or (self._gate.is_quiet and io.operational)
            )
            if not self._is_due or not await self._drain():
                return
            logger.info(
                "disconnecting from the ZEO server %s: not registered", self._protocol.addr
            )
            self._leave()
            await self._wait(lambda: io.operational or io.closed, MOVE_TIMEOUT)
        finally:
            self._gate.open()

    async def _drain(self) -> bool:
        """Delay new calls; return whether the pending ones have been answered."""
        io = self._io
        io.operational = False
        io.connected = io.loop.create_future()
        try:
            await self._wait(lambda: not self._is_due or not self._pending(), DRAIN_TIMEOUT)
        finally:
            is_drained = self._is_due and not self._pending()
            if not is_drained and io.protocol is self._protocol and not io.closed:
                io.operational = True
                io.connected.set_result(None)
        return is_drained

    def _pending(self) -> list[Any]:
        return [call for call in self._protocol.futures.values() if call is not self._ping]

    def _leave(self) -> None:
        # Like ZEO's `disconnected`, except that waiting calls go to the next server.
        io = self._io
        io.client.notify_disconnected()
        io.ready = False
        io.protocol = None
        for protocol in io.protocols:
            protocol.close()
        io.protocols = ()
        self._protocol.close(ClientDisconnected("the server is not registered"))
        io.try_connecting()

    @staticmethod
    async def _wait(condition: Callable[[], object], timeout: float = math.inf) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while not condition() and loop.time() < end:  # noqa: ASYNC110 -- threads change it
            await asyncio.sleep(POLL)
