"""The demo's two processes, which run the commands that users run."""

import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

from ZEO.ClientStorage import ClientStorage

from zc.zrs.system.address import parse_address

START_TIMEOUT = 20.0
STOP_TIMEOUT = 20.0


class DemoFailed(Exception):  # noqa: N818 -- the name is the message
    """The demo did not observe the expected result."""


class Server:
    """A ``zrs primary`` or ``zrs secondary`` process that also serves ZEO clients."""

    def __init__(self, *arguments: str) -> None:
        """Start the process, and wait until it reports that it is ready."""
        command = [sys.executable, "-m", "zc.zrs.command", *arguments]
        self._process = subprocess.Popen(  # noqa: S603 -- our own command
            command, stdout=subprocess.PIPE, text=True
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()
        try:
            self.replication = self._ready("replication on", "replicating from")
            self.zeo = self._ready("zeo on")
        except BaseException:
            self.kill()
            raise

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                self._lines.put(line.rstrip("\n"))
        self._lines.put("")

    def _ready(self, *beginnings: str) -> str:
        """Return the address in the next line."""
        try:
            line = self._lines.get(timeout=START_TIMEOUT)
        except queue.Empty:
            raise DemoFailed(f"a process printed nothing for {START_TIMEOUT:.0f} s") from None
        for beginning in beginnings:
            if line.startswith(beginning):
                return line.removeprefix(beginning).strip()
        raise DemoFailed(f"a process ended or printed {line!r} instead of becoming ready")

    def client(self, *, read_only: bool) -> Any:
        """Return a ZEO client of the process."""
        return ClientStorage(
            parse_address(self.zeo), read_only=read_only, wait=True, wait_timeout=START_TIMEOUT
        )

    def kill(self) -> None:
        """End the process with SIGKILL."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End the process with SIGTERM, and check its exit status."""
        self._process.terminate()
        try:
            status = self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise DemoFailed("a process did not end after SIGTERM") from None
        if status != 0:
            raise DemoFailed(f"a process ended with status {status} after SIGTERM")


def primary(path: Path) -> Server:
    """Start a primary on free ports of the loopback interface."""
    return Server("primary", str(path), "--listen", "127.0.0.1:0", "--zeo", "127.0.0.1:0")


def secondary(path: Path, primary_address: str, zeo: str = "127.0.0.1:0") -> Server:
    """Start a secondary."""
    return Server(
        "secondary", str(path), "--from", primary_address, "--zeo", zeo,
        "--reconnect-delay", "0.5", "--log-level", "error",
    )  # fmt: skip
