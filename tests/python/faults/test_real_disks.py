"""Real processes on full disks, and on disks whose syncs fail."""

from __future__ import annotations

import contextlib
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from faults.preloaded import compile_shim
from replicas.comparison import assert_identical, assert_prefix_of_live_file
from replicas.opening import tcp_address
from replicas.processes import program, read_line
from replicas.transactions import commit
from replicas.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from replicas.opening import Opener

RECORD = b"x" * 100_000

SECONDARY = """
import json
from zc.zrs.storages.engine import open_file_storage

port, engine = sys.argv[2:]
storage = open_file_storage(SECONDARY, engine)
secondary = Secondary(storage, ("127.0.0.1", int(port)), reconnect_delay=0.1)
say("open 0x" + secondary.lastTransaction().hex())
for line in sys.stdin:
    status = secondary.status()
    said = {"tid": status["tid"] or "", "errors": status["errors_by_kind"]}
    said["last_error"] = (status["last_error"] or {}).get("message", "")
    said["state"] = status["state"]
    say(json.dumps(said))
try:
    secondary.close()
except OSError as error:
    # ZODB's storage still has what it could not write, on Python 3.14, and tries once more.
    print(error, file=sys.stderr)
say("closed")
"""

PRIMARY = """
import json

primary = Primary(PRIMARY, LOOPBACK, close_deadline=5)
say(primary.address[1])
for number, line in enumerate(sys.stdin):
    try:
        said = commit(primary, {0: line.encode() * 100}).hex()
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        if primary.tpc_transaction() is not None:
            primary.tpc_abort(primary.tpc_transaction())
    say(said)
primary.close()
say("closed")
"""


class Side:
    """A process that answers each line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.first = read_line(process)

    def ask(self, line: str = "status") -> str:
        """Return its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return read_line(self._process)

    @property
    def status(self) -> dict[str, Any]:
        """A secondary's status."""
        status: dict[str, Any] = json.loads(self.ask())
        return status

    def end(self) -> str:
        """Close it, with whatever errors occur; return its log."""
        output, errors = self._process.communicate(timeout=60)
        assert (self._process.returncode, output) == (0, "closed\n"), errors
        return errors


def shown(tid: bytes) -> str:
    """Return a transaction id in the form of the status."""
    return f"0x{tid.hex()}"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 4 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root can mount a small file system")
    yield place
    unmount = ["umount", str(place)]
    subprocess.run(unmount, check=True)


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("engine", ["rust", "python"])
def test_a_secondary_whose_disk_is_full(
    opener: Opener, disk: Path, engine: str, *, restarted: bool
) -> None:
    """It keeps what it has, names the file, and continues when there is space."""
    copy, room = disk / "secondary.fs", disk / "room"
    room.write_bytes(bytes(2 << 20))
    primary = opener.primary()
    port = str(tcp_address(primary)[1])
    for number in range(30):
        commit(primary, {number: RECORD})
    with program(SECONDARY, disk, port, engine) as process:
        secondary = Side(process)
        wait_until(lambda: secondary.status["errors"].get("storage", 0) > 1, "it is full")
        status = secondary.status
        assert "No space left on device" in status["last_error"]
        if engine == "rust":  # ZODB's error does not name the file
            assert str(copy) in status["last_error"]
        assert_prefix_of_live_file(opener.path, copy)
        before = status["tid"]
        assert before < shown(primary.lastTransaction())
        if restarted:
            assert "No space left on device" in secondary.end()
            room.unlink()
        else:
            room.unlink()
            last = shown(primary.lastTransaction())
            wait_until(lambda: secondary.status["tid"] == last, "it goes on")
            secondary.end()
    if restarted:
        with program(SECONDARY, disk, port, engine) as process:
            secondary = Side(process)
            assert secondary.first.removeprefix("open ") >= before
            last = shown(primary.lastTransaction())
            wait_until(lambda: secondary.status["tid"] == last, "it goes on")
            assert secondary.status["errors"] == {}
            assert secondary.end() == ""
    assert_identical(opener.path, copy)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the library that makes syncs fail."""
    return compile_shim("failing_sync", tmp_path_factory.mktemp("shim"))


@contextlib.contextmanager
def failing(
    source: str, opener: Opener, shim: Path, file: str, *args: str
) -> Iterator[tuple[Side, Path]]:
    """Run a side; syncs of its file fail while the yielded path exists."""
    switch = opener.directory / "syncs fail"
    environment = {
        "LD_PRELOAD": str(shim),
        "ZRS_FAILING_SYNC": str(switch),
        "ZRS_FAILING_FILE": file,
    }
    with program(source, opener.directory, *args, environment=environment) as process:
        yield Side(process), switch


def test_a_secondary_whose_syncs_fail(opener: Opener, shim: Path) -> None:
    """It applies nothing until it is restarted, even if later syncs succeed.

    Data of a failed sync can still be read from memory, but may never reach the disk: an engine
    that only retried would build on them.
    """
    primary = opener.primary()
    port = str(tcp_address(primary)[1])
    first = shown(commit(primary, {0: b"first"}))
    with failing(SECONDARY, opener, shim, opener.copy.name, port, "rust") as (side, switch):
        wait_until(lambda: side.status["tid"] == first)
        length = opener.copy.stat().st_size
        switch.touch()
        commit(primary, {0: b"second"})
        wait_until(lambda: side.status["errors"].get("storage", 0) > 0, "its sync fails")
        assert "Input/output error" in side.status["last_error"]
        assert str(opener.copy) in side.status["last_error"]
        switch.unlink()
        commit(primary, {0: b"third"})
        failures = side.status["errors"]["storage"]
        wait_until(lambda: side.status["errors"]["storage"] > failures + 2, "it tries again")
        assert "reopen the storage" in side.status["last_error"]
        assert_prefix_of_live_file(opener.path, opener.copy)
        side.end()
    # The failed sync may have been that of the first transaction's status.
    has_more = opener.copy.stat().st_size > length
    last = shown(primary.lastTransaction())
    with program(SECONDARY, opener.directory, port, "rust") as process:
        again = Side(process)
        wait_until(lambda: again.status["tid"] == last, "it continues after a restart")
        # It truncates the unsynced transactions and logs that.
        assert ("truncated" in again.end()) == has_more
    assert_identical(opener.path, opener.copy)


def test_a_primary_whose_syncs_fail(opener: Opener, shim: Path) -> None:
    """The failed commit is not sent, and neither is anything else until it is restarted."""
    with failing(PRIMARY, opener, shim, opener.path.name) as (side, switch):
        secondary = opener.secondary(("127.0.0.1", int(side.first)))
        tids = [side.ask("one"), side.ask("two")]
        wait_until(lambda: secondary.lastTransaction().hex() == tids[-1])
        switch.touch()
        assert side.ask("three").startswith("OSError: [Errno 5]")
        switch.unlink()
        assert side.ask("four").startswith("StorageSystemError: ")
        side.end()
        assert [found.tid.hex() for found in secondary.iterator()] == tids
    with program(PRIMARY, opener.directory) as process:
        again = Side(process)
        last = again.ask("five")
        secondary.setReplicationAddress(("127.0.0.1", int(again.first)))
        wait_until(lambda: secondary.lastTransaction().hex() == last)
        # It truncates the failed transaction and logs that.
        assert "truncated" in again.end()
    assert [found.tid.hex() for found in secondary.iterator()] == [*tids, last]
    assert_identical(opener.path, opener.copy)
