"""The interface of reactors for the Twisted driver, and calls into a reactor's thread.

A caller passes the reactor in, so this module does not import Twisted. The protocols below are
the parts of Twisted's interfaces that are used; any object that has them is accepted.
"""

# ruff: noqa: D102 - the protocols' methods are Twisted's, and documented there

from __future__ import annotations

import sys
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Address = tuple[str, int] | str
"""`(host, port)`, or the path of a UNIX socket."""

REACTOR_TIMEOUT = 10.0
"""Timeout for calls in the thread of a running reactor, in seconds."""

T = TypeVar("T")


class DelayedCall(Protocol):
    """The result of `Reactor.callLater`."""

    def cancel(self) -> Any: ...
    def active(self) -> Any: ...


class Transport(Protocol):
    """A connection, as a protocol sees it.

    `registerProducer`, `unregisterProducer` and `abortConnection` are used if a transport has
    them.
    """

    def write(self, data: bytes, /) -> Any: ...
    def loseConnection(self) -> Any: ...
    def getPeer(self) -> Any: ...


class Connector(Protocol):
    """The result of `Reactor.connectTCP` and `Reactor.connectUNIX`."""

    def connect(self) -> Any: ...
    def stopConnecting(self) -> Any: ...


class Port(Protocol):
    """The result of `Reactor.listenTCP` and `Reactor.listenUNIX`."""

    def getHost(self) -> Any: ...
    def stopListening(self) -> Any: ...


class Reactor(Protocol):
    """The methods of a Twisted reactor that the driver calls."""

    def listenTCP(self, port: int, factory: Any, *, interface: str) -> Any: ...
    def listenUNIX(self, address: str, factory: Any, /) -> Any: ...
    def connectTCP(self, host: str, port: int, factory: Any, /) -> Any: ...
    def connectUNIX(self, address: str, factory: Any, /) -> Any: ...
    def callLater(self, delay: float, func: Callable[..., Any], /, *args: Any) -> Any: ...
    def callFromThread(self, func: Callable[..., Any], /, *args: Any) -> Any: ...


class ReactorThread:
    """Calls functions in the thread of a reactor, and returns their results."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._ident: int | None = None

    def inside(self) -> bool:
        """Whether this thread may use the reactor now, without `callFromThread`.

        This is true in the reactor's own thread, and in every thread before the reactor runs,
        while a program sets it up. In these cases, waiting for the reactor would never end.
        """
        if getattr(self._reactor, "running", None) is False:
            return True
        ident = self._ident
        if ident is None and type(self._reactor).__module__.startswith("twisted."):
            threadable = sys.modules.get("twisted.python.threadable")
            ident = getattr(threadable, "ioThread", None)
        return ident == threading.get_ident()

    def call(self, func: Callable[[], T], timeout: float = REACTOR_TIMEOUT) -> T:
        """Call `func` in the reactor's thread, and return its result or raise its exception.

        Raises `TimeoutError` if it has not ended after `timeout` seconds.
        """
        if self.inside():
            return func()
        outcome: Future[T] = Future()
        self._reactor.callFromThread(self._run, func, outcome)
        try:
            return outcome.result(timeout)
        except FutureTimeoutError as error:
            if outcome.done():
                raise  # raised by func itself
            raise TimeoutError(f"the reactor made no call for {timeout} seconds") from error

    def _run(self, func: Callable[[], T], outcome: Future[T]) -> None:
        self._ident = threading.get_ident()
        try:
            result = func()
        except BaseException as error:  # noqa: BLE001 - it is the caller's, who gets it
            outcome.set_exception(error)
        else:
            outcome.set_result(result)
