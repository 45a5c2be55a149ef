"""``zrs bootstrap``: copying a whole database from a primary."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ZODB
import ZODB.blob
from persistent.mapping import PersistentMapping
from ZODB.utils import p64

from certificates.making import Authority
from programs import ZRS, free_port, running
from replicas.comparison import assert_identical, assert_prefix
from replicas.proxy import Proxy
from replicas.transactions import commit
from replicas.waiting import DEADLINE, wait_until
from streams.captures import Capture
from streams.scripted_primary import playing
from zc.zrs.storages.engine import open_file_storage
from zc.zrs.system.address import show_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicas.opening import Opener


def bootstrap(copy: Path, addr: Any, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*ZRS, "bootstrap", copy, "--from", show_address(addr), *arguments]
    return subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def fill(primary: Any, transactions: Sequence[int], size: int = 20_000) -> None:
    for number in transactions:
        commit(primary, {number: b"x" * size})


def unreferenced(objects: int) -> list[str]:
    """Return the check's summary of a database with this many objects, without references."""
    return [f"{objects} transactions, {objects} records, {objects} objects: no problems"]


def test_a_whole_database(opener: Opener) -> None:
    primary = opener.primary()
    with closing(ZODB.DB(primary)) as db:
        for number in range(50):
            with db.transaction() as connection:
                connection.root()[number] = "x" * 10_000
        tid = primary.lastTransaction()
        result = bootstrap(opener.copy, primary.address)
        assert result.returncode == 0
        assert result.stderr == ""
        assert result.stdout.splitlines() == [
            f"fetched 51 transactions, up to 0x{tid.hex()}",
            "51 transactions, 51 records, 1 object: no problems",
        ]
        assert_identical(opener.path, opener.copy)


def test_a_primary_that_goes_on_committing(opener: Opener) -> None:
    primary = opener.primary()
    fill(primary, range(100))
    enough = threading.Event()

    def commit_until_told() -> None:
        while not enough.is_set():
            commit(primary, {0: b"more"})

    thread = threading.Thread(target=commit_until_told)
    thread.start()
    try:
        result = bootstrap(opener.copy, primary.address, "--no-check")
    finally:
        enough.set()
        thread.join()
    assert result.returncode == 0
    assert assert_prefix(opener.path, opener.copy) >= 100


def test_a_database_with_blobs(opener: Opener, tmp_path: Path) -> None:
    storage = open_file_storage(str(opener.path), blob_dir=str(tmp_path / "blobs"))
    primary = opener.primary(storage)
    with closing(ZODB.DB(primary)) as db:
        with db.transaction() as connection:
            connection.root()["blob"] = ZODB.blob.Blob(b"b" * 200_000)
            connection.add(connection.root()["blob"])
            oid = connection.root()["blob"]._p_oid
        copies = tmp_path / "copies"
        result = bootstrap(opener.copy, primary.address, "--blob-dir", copies)
        assert (result.returncode, result.stderr) == (0, "")
        tid = primary.getTid(oid)
    with closing(open_file_storage(str(opener.copy), blob_dir=str(copies))) as copy:
        assert Path(copy.loadBlob(oid, tid)).read_bytes() == b"b" * 200_000


def test_an_empty_database(opener: Opener) -> None:
    result = bootstrap(opener.copy, opener.primary().address, "--no-check")
    assert result.returncode == 0
    assert result.stdout == f"fetched 0 transactions, up to 0x{'0' * 16}\n"


def test_a_killed_bootstrap_resumes_where_it_stopped(opener: Opener, tmp_path: Path) -> None:
    primary = opener.primary()
    fill(primary, range(200))
    whole = opener.path.stat().st_size
    started = threading.Event()

    def kill(_: int) -> None:
        started.wait()
        # Data that have arrived are applied before the process is killed.
        wait_until(lambda: assert_prefix(opener.path, opener.copy) > 50)
        os.kill(process.pid, signal.SIGKILL)

    with closing(Proxy(primary.address, [whole // 2, whole // 2 + 1000], kill)) as proxy:
        command = [*ZRS, "bootstrap", opener.copy, "--from", show_address(proxy.address)]
        with running(command, tmp_path / "log") as process:
            started.set()
            wait_until(lambda: not process.running)
        begun = assert_prefix(opener.path, opener.copy)
        assert 50 < begun < 200
        # The second connection breaks too, and the process retries.
        proxy._at_limit = lambda _: None
        result = bootstrap(opener.copy, proxy.address, "--no-check")
        assert result.returncode == 0
        fetched = int(result.stdout.split()[1])
        assert fetched == 200 - begun
    assert_identical(opener.path, opener.copy)
    again = bootstrap(opener.copy, primary.address)
    assert again.stdout.splitlines()[0].startswith("fetched 0 transactions, up to 0x")


def test_a_fork_is_refused(opener: Opener) -> None:
    primary = opener.primary()
    fill(primary, range(3))
    other = opener.primary(str(opener.copy))
    fill(other, range(2))
    other.close()
    before = opener.copy.read_bytes()
    result = bootstrap(opener.copy, primary.address)
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("zrs: ")]
    assert line.startswith(f"zrs: cannot fetch from {show_address(primary.address)}: ")
    assert f"0x{primary.lastTransaction().hex()}" in line or "history" in line
    assert opener.copy.read_bytes() == before


def test_a_primary_that_cannot_be_reached(opener: Opener) -> None:
    addr = ("127.0.0.1", free_port())
    result = bootstrap(opener.copy, addr, "--timeout", "0.5")
    assert result.returncode == 1
    beginning = (
        f"zrs: cannot fetch from {show_address(addr)}: received nothing for 0.5 seconds: "
    )
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("zrs: ")]
    assert line.startswith(beginning)
    assert "refused" in line


def test_a_silent_primary(opener: Opener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        addr = silent.getsockname()
        timeout = "0.5"  # less than the idle time after which a zc.zrs counts as caught up
        result = bootstrap(opener.copy, addr, "--timeout", timeout)
    assert result.returncode == 1
    assert (
        f"zrs: cannot fetch from {show_address(addr)}: received nothing for 0.5"
        in result.stderr
    )


def test_a_primary_that_stops_in_the_middle(opener: Opener) -> None:
    """A pause in the stream is not mistaken for its end."""
    primary = opener.primary()
    fill(primary, range(100))
    stopped = threading.Event()

    def stop(_: int) -> None:
        stopped.wait(DEADLINE)

    with closing(Proxy(primary.address, [1_000_000], stop)) as proxy:
        result = bootstrap(opener.copy, proxy.address, "--timeout", "6")
        stopped.set()
    assert result.returncode == 1
    assert "received nothing for 6 seconds" in result.stderr
    assert 0 < assert_prefix(opener.path, opener.copy) < 100


def test_a_zc_zrs_primary_does_not_announce_its_position(opener: Opener) -> None:
    capture = Capture("py38-plain")
    stream = capture.read(".wire")
    with playing(lambda _start: [stream]) as primary:
        result = bootstrap(opener.copy, primary.address, "--no-check")
    assert result.returncode == 0
    assert opener.copy.read_bytes() == capture.read(".fs")


def test_encrypted(opener: Opener, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    primary = opener.primary(ssl=authority.files())
    fill(primary, range(3))
    certificate, key = authority.issue()
    ours = ["--ssl-certificate", certificate, "--ssl-key", key]
    trusting = [*ours, "--ssl-authenticate", authority.path, "--no-check"]
    assert bootstrap(opener.copy, primary.address, *trusting).returncode == 0
    assert_identical(opener.path, opener.copy)

    stranger = Authority(tmp_path, "strangers")
    distrusting = [*ours, "--ssl-authenticate", stranger.path, "--timeout", "20"]
    result = bootstrap(tmp_path / "other.fs", primary.address, *distrusting)
    assert result.returncode == 1
    assert "zrs: cannot fetch from" in result.stderr
    assert "certificate" in result.stderr


def test_problems_of_the_database_are_reported_at_the_end(opener: Opener) -> None:
    """A record that refers to a missing object is replicated unchanged."""
    primary = opener.primary()
    with closing(ZODB.DB(primary)) as db:
        with db.transaction() as connection:
            connection.root()["missing"] = PersistentMapping()
        data = primary.load(p64(0))[0]
    other = opener.primary(str(opener.directory / "other.fs"))
    commit(other, {0: data})
    result = bootstrap(opener.copy, other.address)
    assert result.returncode == 1
    assert "refers to invalid object 0x01 missing" in result.stdout


def test_a_file_that_is_not_a_database(opener: Opener, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("something else, which must stay as it is")
    result = bootstrap(path, opener.primary().address)
    assert result.returncode in {1, 2}
    assert result.stderr.startswith(f"zrs: cannot open {path}: ")
    assert path.read_text() == "something else, which must stay as it is"
