"""What the Twisted driver asks of a reactor, and calling into a reactor's thread.

A caller passes the reactor in, so nothing here imports Twisted: the protocols below are
the part of Twisted's interfaces that is used, and any object that has it will do.
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
"""Seconds to wait for a running reactor to make a call."""

T = TypeVar("T")


class DelayedCall(Protocol):
    """What `Reactor.callLater` returns."""

    def cancel(self) -> Any: ...
    def active(self) -> Any: ...


class Transport(Protocol):
    """A connection, as a protocol sees it.

    `registerProducer`, `unregisterProducer` and `abortConnection` are used where a
    transport has them.
    """

    def write(self, data: bytes, /) -> Any: ...
    def loseConnection(self) -> Any: ...
    def getPeer(self) -> Any: ...


class Connector(Protocol):
    """What `Reactor.connectTCP` and `Reactor.connectUNIX` return."""

    def connect(self) -> Any: ...
    def stopConnecting(self) -> Any: ...


class Port(Protocol):
    """What `Reactor.listenTCP` and `Reactor.listenUNIX` return."""

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
    """Makes calls in the thread of a reactor and returns what they return."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._ident: int | None = None

    def inside(self) -> bool:
        """Whether this thread may use the reactor now, without `callFromThread`.

        So it is in the reactor's own thread, and in any thread as long as the reactor does
        not run, which is when a program sets it up. Waiting for the reactor inside would
        be for ever.
        """
        if getattr(self._reactor, "running", None) is False:
            return True
        ident = self._ident
        if ident is None and type(self._reactor).__module__.startswith("twisted."):
            threadable = sys.modules.get("twisted.python.threadable")
            ident = getattr(threadable, "ioThread", None)
        return ident == threading.get_ident()

    def call(self, func: Callable[[], T], timeout: float = REACTOR_TIMEOUT) -> T:
        """Call `func` in the reactor's thread, and return or raise what it does.

        Raises `TimeoutError` if that has not happened after `timeout` seconds.
        """
        if self.inside():
            return func()
        outcome: Future[T] = Future()
        self._reactor.callFromThread(self._run, func, outcome)
        try:
            return outcome.result(timeout)
        except FutureTimeoutError as error:
            if outcome.done():
                raise  # it is func's own
            raise TimeoutError(f"the reactor made no call for {timeout} seconds") from error

    def _run(self, func: Callable[[], T], outcome: Future[T]) -> None:
        self._ident = threading.get_ident()
        try:
            result = func()
        except BaseException as error:  # noqa: BLE001 - it is the caller's, who gets it
            outcome.set_exception(error)
        else:
            outcome.set_result(result)
