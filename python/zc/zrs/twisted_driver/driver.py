"""Replication on a reactor that the caller passes in, instead of on tokio.

The peers are those of the native module, with the same logging and decoding; only the sockets,
the timers and the thread belong to the reactor. Any object with the interface in
`zc.zrs.twisted_driver.reactor_thread` is a reactor; this package does not import Twisted.

For `zc.zrs.primary` and `zc.zrs.secondary`: import `PrimaryFactory` and
`SecondaryFactory` there from `zc.zrs.twisted_driver.primary` and `zc.zrs.twisted_driver.secondary`,
so that they are found in the module that their `__module__` names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zc.zrs.twisted_driver.primary import TwistedServer
from zc.zrs.twisted_driver.secondary import TwistedClient

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal

    from zc.zrs._zrs import Feed, SecondaryPeer
    from zc.zrs.twisted_driver.reactor_thread import Address, Reactor

__all__ = ["TwistedClient", "TwistedServer", "connect", "listen"]


def listen(
    reactor: Reactor,
    addr: Address,
    feed: Feed,
    wire_pickles: Literal["python2", "python3"] = "python3",
) -> TwistedServer:
    """Serve a feed's transactions to the secondaries that connect to `addr`.

    Raises the reactor's exception if the address cannot be bound.
    """
    return TwistedServer(reactor, addr, feed, wire_pickles)


def connect(
    reactor: Reactor,
    addrs: Sequence[Address],
    make_peer: Callable[[str], SecondaryPeer],
    reconnect_delay: float = 60.0,
    keep_alive_delay: float = 0.0,
) -> TwistedClient:
    """Replicate from a primary at one of `addrs`, with peers that `make_peer` creates.

    `make_peer` is called with the primary's name for each connection.
    """
    return TwistedClient(reactor, addrs, make_peer, reconnect_delay, keep_alive_delay)
