"""Running programs in tests: their output, log and exit status."""

from __future__ import annotations

import queue
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

ZRS = (sys.executable, "-m", "zc.zrs.command")
TIMEOUT = 60


class Program:
    """A running program with its standard error in a file."""

    def __init__(self, arguments: Sequence[object], log: Path) -> None:
        self._log = log
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                list(map(str, arguments)), stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        self.pid = self._process.pid
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line.rstrip("\n"))
        self._lines.put("")

    @property
    def log(self) -> str:
        """The standard error so far."""
        return self._log.read_text()

    @property
    def running(self) -> bool:
        """Whether it is running."""
        return self._process.poll() is None

    def wait_for(self, beginning: str, timeout: float = TIMEOUT) -> str:
        """Return the rest of the next line with this prefix."""
        while True:
            try:
                line = self._lines.get(timeout=timeout)
            except queue.Empty:
                raise AssertionError(
                    f"{beginning!r} was not printed; log: {self.log}"
                ) from None
            if line.startswith(beginning):
                return line.removeprefix(beginning).strip()
            assert line or self.running, f"ended without {beginning!r}; log: {self.log}"

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal if it is running; return the exit status."""
        self._process.send_signal(number)
        try:
            return self._process.wait(TIMEOUT)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join()


@contextmanager
def running(arguments: Sequence[object], log: Path) -> Iterator[Program]:
    """Run a program during the block, and kill it afterwards if it still runs."""
    program = Program(arguments, log)
    try:
        yield program
    finally:
        program.end(signal.SIGKILL)


def free_port() -> int:
    """Return a port of this machine that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
