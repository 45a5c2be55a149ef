"""What a service tells systemd of itself (sd_notify(3), ``Type=notify``).

`NOTIFY_SOCKET` names a datagram socket, by its path or, after an ``@``, in the abstract
namespace. Where it is not set nobody is told anything.
"""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from zc.zrs.status.lag_record import is_settled_quiet

logger = logging.getLogger("zc.zrs.notify")

_LOOK = 0.5
"""Seconds between two looks at the storage's status."""


@contextlib.contextmanager
def notifying(status: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """Tell systemd while the block runs when the storage is ready, and what it is at.

    A primary is ready at once, for it listens; a secondary when it has caught up, as far as it can tell. From the
    block's end on it is stopping.

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
    def __init__(self, addr: str, status: Callable[[], dict[str, Any]]) -> None:
        self._addr = "\0" + addr[1:] if addr.startswith("@") else addr
        self._status = status
        self._ready = False
        self._said = ""
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="zc.zrs.notify", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._enough.set()
        self._thread.join()
        self._tell("STOPPING=1", "STATUS=stopping")

    def _run(self) -> None:
        while True:
            self._look()
            if self._enough.wait(_LOOK):
                return

    def _look(self) -> None:
        status = self._status()
        said = summary(status)
        lines = []
        if not self._ready and _is_ready(status):
            lines.append("READY=1")
        if said != self._said:
            lines.append(f"STATUS={said}")
        if lines and self._tell(*lines):
            self._ready = self._ready or lines[0] == "READY=1"
            self._said = said

    def _tell(self, *lines: str) -> bool:
        """Send one datagram; return whether it went."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                # Nobody is to wait for a service manager that does not read.
                sender.setblocking(False)  # noqa: FBT003 -- the standard library's signature
                sender.connect(self._addr)
                sender.send("\n".join(lines).encode())
        except OSError as error:
            logger.debug("cannot notify %r: %s", self._addr, error)
            return False
        return True


def _is_ready(status: dict[str, Any]) -> bool:
    state = status["state"]
    if state != "quiet":
        return state in {"listening", "following"}
    lag, caught_up = status["lag_seconds"], status["caught_up"]
    return is_settled_quiet(state, caught_up=caught_up, lag=lag)


def summary(status: dict[str, Any]) -> str:
    """Return a primary's or a secondary's status in a line."""
    tid = status["tid"]
    if "peers" in status:
        following = sum(peer["state"] == "following" for peer in status["peers"])
        return f"listening; {len(status['peers'])} connected, {following} following; at {tid}"
    words = status["state"] if tid is None else f"{status['state']}; at {tid}"
    if status["state"] in {"waiting", "diverged"} and status["last_error"] is not None:
        words += f"; {status['last_error']['message']}"
    return str(words).replace("\n", " ")
