"""The machines of pages, each emulated by a directory, a shell and ports of this one."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from doctests.pages.blocks import CHECKOUT

from programs import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 60
PORTS = ("2181", "8100", "8101", "8102", "8180", "8181", "8182", "8200", "8201", "8202")
"""The ports that pages use; each stands for a free one, another on each machine."""

_HOST = r"(?P<machine>\w+)\.example\.com"
_SUBSTITUTED = re.compile(
    rf"(?P<path>(?<![\w./-])/(?P<top>etc|var|mnt)(?=/))"
    rf"|(?<![\w./-])/opt/(?P<software>[\w.]+)(?=/)"
    rf'|(?:{_HOST}(?P<between>:|", |", port=)?)?(?P<port>\b(?:{"|".join(PORTS)})\b)'
    rf"|{_HOST.replace('machine', 'host')}"
)
# A shell's messages about a killed job.
_NOTICE = re.compile(r"/bin/bash: line \d+: +\d+ \w+ +")
# The directory of the software in pages.
SOFTWARE = {"zrs": Path(sys.prefix), "zc.zrs": CHECKOUT / ".peers" / "zrs31"}
# Servers that listen on all interfaces in pages listen on loopback here.
_EVERYWHERE = re.compile(
    r"^(\s*(?:address|replicate-to|status-address)\s+)(\d+)$", re.MULTILINE
)
_END = "=the command has ended="


class Network:
    """The machines of a page: those with a name, and one without."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports: dict[tuple[str, str], int] = {}
        self._machines: dict[str, Machine] = {}

    def machine(self, name: str) -> Machine:
        """Return a machine, with its own directory as root."""
        if name not in self._machines:
            self._machines[name] = Machine(self, name, self._directory / (name or "here"))
        return self._machines[name]

    def port(self, machine: str, port: str) -> int:
        """Return the free port that represents a machine's port."""
        if (machine, port) not in self._ports:
            self._ports[machine, port] = free_port()
        return self._ports[machine, port]

    def fix(self, machine: str, port: str, real: int) -> None:
        """Map a port of a machine to one on which a server listens."""
        self._ports[machine, port] = real

    def substituted(self, text: str, machine: str) -> str:
        """Return a machine's text with the paths, hosts and ports of this one."""

        def here(found: re.Match[str]) -> str:
            if found["path"]:
                # Mounted directories are the same on all machines.
                root = "shared" if found["top"] == "mnt" else machine or "here"
                return f"{self._directory / root}{found['path']}"
            if found["software"]:
                return str(SOFTWARE[found["software"]])
            if found["host"]:
                return "localhost"
            named = found["machine"]
            port = self.port(machine if named is None else named, found["port"])
            host = "" if named is None else f"localhost{found['between'] or ''}"
            return f"{host}{port}"

        return _SUBSTITUTED.sub(here, text)

    def close(self) -> None:
        """End all processes of all machines."""
        for machine in self._machines.values():
            machine.close()


class Machine:
    """A directory, with a shell in it that runs until `close`."""

    def __init__(self, network: Network, name: str, root: Path) -> None:
        self._network = network
        self.name = name
        self.root = root
        for directory in "etc/zrs", "var/lib/zodb":
            (root / directory).mkdir(parents=True, exist_ok=True)
        self._jobs = 0
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._shell = subprocess.Popen(
            ["/bin/bash", "--noprofile", "--norc"],
            cwd=root,
            env={**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", "COLUMNS": "100"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the shell's own messages about jobs
            text=True,
            start_new_session=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._write("set -m\n")

    def substituted(self, text: str) -> str:
        """Return a text with the paths, hosts and ports of this machine."""
        return self._network.substituted(text, self.name)

    def run(self, command: str) -> tuple[int, str]:
        """Run a command; return its exit status and output."""
        self._write(
            f"{{ {command}\n}} 2>&1 </dev/null; s=$?; echo; echo '{_END}' $s; (exit $s)\n"
        )
        output: list[str] = []
        for line in self._until_end():
            if line.startswith(_END):
                text = "".join(output)
                return int(line.split()[-1]), text[:-1]
            if not _NOTICE.match(line):
                output.append(line)
        raise AssertionError(f"the shell ended in {command!r} with {''.join(output)!r}")

    def start(self, command: str) -> Path:
        """Start a job of the shell; return the file with its output."""
        self._jobs += 1
        output = self.root / f".job-{self._jobs}"
        output.touch()
        status, text = self.run(f"{command} >'{output}' 2>&1 </dev/null &")
        assert (status, text) == (0, ""), text
        return output

    def write(self, path: str, text: str) -> Path:
        """Write a file, given its path on the machine and its text as on a page."""
        file = self.root / self.substituted(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_EVERYWHERE.sub(r"\g<1>127.0.0.1:\2", self.substituted(text)))
        return file

    def close(self) -> None:
        """Kill the jobs, and end the shell."""
        self._write("kill -KILL $(jobs -p); wait; exit\n")
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        try:
            self._shell.wait(TIMEOUT)
        finally:
            for pid in _session(self._shell.pid):
                os.kill(pid, signal.SIGKILL)
            self._shell.wait()
            self._reader.join()

    def _write(self, text: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(text)
        self._shell.stdin.flush()

    def _read(self) -> None:
        assert self._shell.stdout is not None
        with self._shell.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)

    def _until_end(self) -> Iterator[str]:
        while True:
            try:
                line = self._lines.get(timeout=TIMEOUT)
            except queue.Empty:
                raise AssertionError(f"nothing was printed for {TIMEOUT} s") from None
            if line is None:
                return
            yield line


def _session(leader: int) -> list[int]:
    """Return the processes of a session, such as those of a shell that hangs."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        pid = int(process.name)
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == leader:
                found.append(pid)
    return found
