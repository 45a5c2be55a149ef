"""Notifications to systemd (sd_notify(3), ``Type=notify``).

`NOTIFY_SOCKET` names a datagram socket, by its path or, after an ``@``, in the abstract
namespace. Without it, nothing is sent.
"""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import cast

from zc.zrs.status.lag_record import quiet_means_caught_up
from zc.zrs.status.schema import PrimaryStatus, SecondaryStatus, Status
from zc.zrs.status.states import meaning

logger = logging.getLogger("zc.zrs.notify")

_INTERVAL = 0.5
"""Seconds between two checks of the storage's status."""


@contextlib.contextmanager
def notifying(status: Callable[[], Status]) -> Iterator[None]:
    """Notify systemd of the storage's readiness and status while the block runs.

    A primary is ready immediately, because it listens. A secondary is ready when it has caught
    up, or counts as caught up. At the end of the block, the service is reported as stopping.

    :param status: a primary's or a secondary's `status`
    """
    addr = os.environ.get("NOTIFY_SOCKET")
    if not addr:
        yield
        return
    notifier = _Notifier(addr, status)
    notifier.start()
    try:
        yield
    finally:
        notifier.stop()


class _Notifier:
    def __init__(self, addr: str, status: Callable[[], Status]) -> None:
        self._addr = "\0" + addr[1:] if addr.startswith("@") else addr
        self._status = status
        self._ready = False
        self._sent_text = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="zc.zrs.notify", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._send("STOPPING=1", "STATUS=stopping")

    def _run(self) -> None:
        while True:
            self._update()
            if self._stopping.wait(_INTERVAL):
                return

    def _update(self) -> None:
        status = self._status()
        text = summary(status)
        lines = []
        if not self._ready and _is_ready(status):
            lines.append("READY=1")
        if text != self._sent_text:
            lines.append(f"STATUS={text}")
        if lines and self._send(*lines):
            self._ready = self._ready or lines[0] == "READY=1"
            self._sent_text = text

    def _send(self, *lines: str) -> bool:
        """Send one datagram; return whether that succeeded."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                # Do not wait for a service manager that does not read.
                sender.setblocking(False)  # noqa: FBT003 -- the standard library's signature
                sender.connect(self._addr)
                sender.send("\n".join(lines).encode())
        except OSError as error:
            logger.debug("cannot notify %r: %s", self._addr, error)
            return False
        return True


def _is_ready(status: Status) -> bool:
    state = status["state"]
    if state == "quiet":
        status = cast("SecondaryStatus", status)
        lag, caught_up = status["lag_seconds"], status["caught_up"]
        return quiet_means_caught_up(state, caught_up=caught_up, lag=lag)
    return meaning(state).ready is True


def summary(status: Status) -> str:
    """Return a primary's or a secondary's status in a line."""
    state, tid = status["state"], status.get("tid")
    if "peers" in status:
        peers = cast("PrimaryStatus", status)["peers"]
        following = sum(peer["state"] == "following" for peer in peers)
        return f"listening; {len(peers)} connected, {following} following; at {tid}"
    words = state if tid is None else f"{state}; at {tid}"
    last = status.get("last_error")
    if state in {"waiting", "diverged"} and last is not None:
        words += f"; {last['message']}"
    return words.replace("\n", " ")
