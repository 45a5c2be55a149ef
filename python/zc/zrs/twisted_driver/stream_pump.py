"""Moves a stream's bytes from the file to a Twisted transport, with backpressure.

The pump's thread waits for the stream, without the GIL; the reactor's thread writes.
The queue between them is bounded, and a transport with full buffers pauses it.
"""

from __future__ import annotations

import collections
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from zc.zrs._zrs import TransactionStream
    from zc.zrs.twisted_driver.reactor_thread import Reactor, Transport

QUEUE_LIMIT = 1 << 16
"""Maximum bytes read ahead of the transport, not counting the chunk that exceeds the limit."""


class StreamPump:
    """Twisted's push producer for one stream, and the thread that feeds it.

    When the last chunk has been written, or the stream has failed, `ended` is called once in
    the reactor's thread, with None or the failure. After `stop`, nothing is called or written.
    """

    def __init__(
        self,
        reactor: Reactor,
        stream: TransactionStream,
        transport: Transport,
        ended: Callable[[Exception | None], None],
    ) -> None:
        self._reactor = reactor
        self._stream = stream
        self._transport = transport
        self._ended = ended
        # Guards the following attributes. Never held while the transport, the stream or the
        # reactor is called, because they call back.
        self._changed = threading.Condition()
        self._chunks: collections.deque[bytes] = collections.deque()
        self._queued = 0
        self._announced = False
        self._paused = False
        self._stopped = False
        self._finished = False
        self._failure: Exception | None = None

    def start(self, name: str) -> None:
        """Start reading, in a thread called `name`."""
        threading.Thread(target=self._read, name=name, daemon=True).start()

    # --- The reading thread -------------------------------------------------------------

    def _read(self) -> None:
        failure = None
        try:
            while (chunk := self._stream.next_chunk()) is not None:
                if not self._enqueue(chunk):
                    return
        except Exception as error:  # noqa: BLE001 - the connection's end tells of it
            failure = error
        with self._changed:
            self._finished = True
            self._failure = failure
            announce = self._announce()
        if announce:
            self._reactor.callFromThread(self._write_queued)

    def _enqueue(self, chunk: bytes) -> bool:
        """Queue a chunk when there is room; return False if the pump was stopped."""
        with self._changed:
            while self._queued >= QUEUE_LIMIT and not self._stopped:
                self._changed.wait()
            if self._stopped:
                return False
            self._chunks.append(chunk)
            self._queued += len(chunk)
            announce = self._announce()
        if announce:
            self._reactor.callFromThread(self._write_queued)
        return True

    def _announce(self) -> bool:
        """Return whether the reactor must be notified of the queue; the lock is held."""
        self._changed.notify_all()
        announce = not self._announced and not self._stopped
        self._announced = True
        return announce

    # --- The reactor's thread -----------------------------------------------------------

    def _write_queued(self) -> None:
        """Write the queue; chunks queued later are written in a later turn of the reactor."""
        with self._changed:
            self._announced = False
            turns = len(self._chunks)
        for _ in range(turns):
            with self._changed:
                if self._paused or self._stopped or not self._chunks:
                    return
                chunk = self._chunks.popleft()
                self._queued -= len(chunk)
                self._changed.notify_all()
            self._transport.write(chunk)
        with self._changed:
            if self._stopped or self._chunks or not self._finished:
                return
            self._stopped = True
        self._ended(self._failure)

    def drain(self, until: float) -> None:
        """Write as much of the stream as possible in this turn of the reactor.

        Returns at the stream's end, when the transport's buffers are full, or at the time
        `until` of the monotonic clock.
        """
        while True:
            with self._changed:
                while not (self._chunks or self._finished or self._stopped or self._paused):
                    left = until - time.monotonic()
                    if left <= 0 or not self._changed.wait(left):
                        return
                if self._stopped or self._paused or time.monotonic() > until:
                    return
            self._write_queued()

    def stop(self) -> None:
        """End the thread and discard the queue."""
        with self._changed:
            self._stopped = True
            self._chunks.clear()
            self._changed.notify_all()
        self._stream.stop()

    # --- Twisted's IPushProducer --------------------------------------------------------

    def pauseProducing(self) -> None:
        """Stop writing until `resumeProducing`."""
        with self._changed:
            self._paused = True
            self._changed.notify_all()

    def resumeProducing(self) -> None:
        """Continue writing."""
        with self._changed:
            self._paused = False
        self._write_queued()

    def stopProducing(self) -> None:
        """Stop permanently: the transport is closed."""
        self.stop()
