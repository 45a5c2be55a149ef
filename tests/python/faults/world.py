"""A primary and a secondary in separate processes, which can be killed.

The primary commits until it is stopped. Every transaction changes two counters alike, and some
other objects. Applications of the secondary read the counters all the time, and must never see
them differ or decrease.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from replicas.comparison import assert_identical, assert_prefix_of_live_file
from replicas.processes import program, read_line
from replicas.waiting import DEADLINE, wait_until

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

PRIMARY = """
import ZODB
from BTrees.OOBTree import OOBTree
logging.disable(logging.CRITICAL)
primary = Primary(PRIMARY, ("127.0.0.1", int(sys.argv[2])), close_deadline=30)
database = ZODB.DB(primary)
told = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), told.set()), daemon=True).start()
with database.transaction() as connection:
    if not hasattr(connection.root, "a"):
        connection.root.a, connection.root.b = OOBTree({"value": 0}), OOBTree({"value": 0})
        connection.root.more, connection.root.large = OOBTree(), OOBTree()
say("open", primary.address[1])
# Slowly enough that hundreds of kills do not make files of gigabytes.
while not told.wait(0.005):
    with database.transaction() as connection:
        root = connection.root
        number = root.a["value"] = root.b["value"] = root.a["value"] + 1
        root.more[number % 20] = "x" * (number * 7919 % 200)
        if number % 100 == 0:
            root.large["value"] = "x" * (number * 7919 % 100_000)
say("quiet")
sys.stdin.readline()
database.close()
say("closed")
"""

SECONDARY = """
import transaction, ZODB
logging.disable(logging.CRITICAL)
secondary = Secondary(SECONDARY, ("127.0.0.1", int(sys.argv[2])), reconnect_delay=0.02)
told = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), told.set()), daemon=True).start()
say("open")
while secondary.lastTransaction() in (None, bytes(8)) and not told.wait(0.005):
    pass
looks = highest = 0
if not told.is_set():
    database = ZODB.DB(secondary)
    manager = transaction.TransactionManager(explicit=True)
    connection = database.open(manager)
    while not told.wait(0.002):
        manager.begin()
        if hasattr(connection.root, "b"):
            a, b = connection.root.a["value"], connection.root.b["value"]
            if a != b or a < highest:
                say("broken: counters", a, b, "after", highest)
                os._exit(1)
            highest = a
            looks += 1
        manager.abort()
        if looks % 50 == 0:
            connection.cacheMinimize()
    connection.close()
    database.close()
secondary.close()
say("closed", looks, highest)
"""


class World:
    """The two processes, and the files in a directory."""

    def __init__(self, directory: Path, *, through: int | None = None) -> None:
        """Let the secondary connect to the port `through` instead of the primary's."""
        self.directory = directory
        self.path, self.copy = directory / "primary.fs", directory / "secondary.fs"
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port: int = server.getsockname()[1]
        self.through = through
        self.looks = 0
        self._stack = contextlib.ExitStack()
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, side: str) -> None:
        """Start a side, `primary` or `secondary`, and wait until it is open."""
        source = PRIMARY if side == "primary" else SECONDARY
        port = self.port if side == "primary" else self.through or self.port
        process = self._stack.enter_context(program(source, self.directory, str(port)))
        self._processes[side] = process
        assert read_line(process).split()[0] == "open"

    def kill(self, side: str) -> None:
        """Kill a side, and check its files."""
        process = self._processes[side]
        process.kill()
        assert process.stdout is not None
        # Its output so far must be empty, or report a broken connection.
        said = process.stdout.read()
        process.wait()
        assert not said, said
        if self.copy.exists() and self.path.exists():
            assert_prefix_of_live_file(self.path, self.copy)

    def finish(self, side: str) -> list[str]:
        """Stop a side, and return its last output."""
        process = self._processes[side]
        output, errors = process.communicate("stop\n", timeout=2 * DEADLINE)
        assert (process.returncode, errors) == (0, ""), output
        return output.split()

    def wait_for_commits(self) -> None:
        """Wait until the primary has committed something."""
        size = self._size(self.path)
        wait_until(lambda: self._size(self.path) > size + 20_000, "commits continue")

    def wait_for_replication(self) -> None:
        """Wait until the secondary has received something."""
        size = self._size(self.copy)
        wait_until(lambda: self._size(self.copy) > size + 20_000, "replication continues")

    def end(self) -> None:
        """Stop both sides once the secondary has caught up; their files must be equal."""
        primary = self._processes["primary"]
        assert primary.stdin is not None
        primary.stdin.write("be quiet\n")
        primary.stdin.flush()
        assert read_line(primary) == "quiet"
        wait_until(
            lambda: self._size(self.copy) == self._size(self.path), "the secondary has it all"
        )
        assert self.finish("primary") == ["closed"]
        closed, looks, highest = self.finish("secondary")
        assert closed == "closed"
        assert int(looks) > 0
        assert int(highest) > 0
        assert_identical(self.path, self.copy)

    @staticmethod
    def _size(path: Path) -> Any:
        return path.stat().st_size if path.exists() else 0
