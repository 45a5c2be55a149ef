"""The configurations in examples/ and the container's program run real ZEO servers."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import transaction
import ZODB
from ZEO.ClientStorage import ClientStorage
from ZODB.blob import Blob

from programs import Program, free_port
from replicas.waiting import DEADLINE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHECKOUT = Path(__file__).parents[3]
EXAMPLES = CHECKOUT / "examples/zeo"
SERVER = CHECKOUT / "container/zeo-server"
SCRIPTS = sysconfig.get_path("scripts")
TIMEOUT = 60


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Program]]:
    monkeypatch.setenv("PATH", f"{SCRIPTS}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    with contextlib.ExitStack() as stack:

        def start(*command: object, **environment: str) -> Program:
            variables = [f"{name}={value}" for name, value in environment.items()]
            program = Program(["env", *variables, *command], tmp_path / "output")
            stack.callback(program.end)
            return program

        yield start


def client(port: int, cache: Path, *, read_only: bool = False) -> Any:
    storage = ClientStorage(
        ("127.0.0.1", port), read_only=read_only, wait_timeout=DEADLINE, blob_dir=str(cache)
    )
    assert storage.is_connected()
    return storage


def commit_a_blob(port: int, cache: Path) -> bytes:
    with contextlib.closing(ZODB.DB(client(port, cache))) as db:
        with db.transaction() as connection:
            connection.root()["blob"] = Blob(b"large")
        tid: bytes = db.storage.lastTransaction()
    return tid


def read_the_blob(port: int, cache: Path, tid: bytes) -> bytes:
    storage = client(port, cache, read_only=True)
    with contextlib.closing(storage):
        wait_until(lambda: storage.lastTransaction() == tid)
        root = ZODB.DB(storage).open(transaction.TransactionManager()).root()
        with root["blob"].open() as blob:
            data: bytes = blob.read()
    return data


def test_the_examples(tmp_path: Path, start: Callable[..., Program]) -> None:
    ports = {str(port): free_port() for port in (8100, 8101, 8200, 8300, 8301)}
    names = {path.stem for path in EXAMPLES.glob("*.conf")}
    assert names == {"primary", "secondary", "cascade"}
    for name in names:
        text = (EXAMPLES / f"{name}.conf").read_text()
        text = re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda found: str(ports[found[0]]), text)
        (tmp_path / f"{name}.conf").write_text(text)
        start("runzeo", "-C", f"{name}.conf")
    tid = commit_a_blob(ports["8100"], tmp_path / "cache")
    for port in "8200", "8300":
        assert read_the_blob(ports[port], tmp_path / f"cache{port}", tid) == b"large"
    # The cascade is a primary too.
    last = tmp_path / "last.fs"
    source = f"127.0.0.1:{ports['8301']}"
    command = [f"{SCRIPTS}/zrs", "bootstrap", str(last), "--blob-dir", f"{tmp_path}/last.blobs"]
    subprocess.run([*command, "--from", source], check=True, timeout=TIMEOUT)
    assert last.read_bytes() == (tmp_path / "primary.fs").read_bytes()


def test_the_containers_program(tmp_path: Path, start: Callable[..., Program]) -> None:
    zeo, replication, copy_zeo = free_port(), free_port(), free_port()
    start(
        SERVER,
        ZRS_DATA=f"{tmp_path}/one",
        ZEO_PORT=str(zeo),
        ZEO_PACK_KEEP_OLD="false",
        ZRS_REPLICATE_TO=f"127.0.0.1:{replication}",
    )
    start(
        SERVER,
        ZRS_DATA=f"{tmp_path}/two",
        ZEO_ADDRESS=f"127.0.0.1:{copy_zeo}",
        ZEO_READ_ONLY="true",
        ZEO_INVALIDATION_QUEUE_SIZE="50",
        ZRS_REPLICATE_FROM=f"127.0.0.1:{replication}",
        ZRS_KEEP_ALIVE_DELAY="5",
    )
    tid = commit_a_blob(zeo, tmp_path / "cache")
    assert read_the_blob(copy_zeo, tmp_path / "copies", tid) == b"large"
    files = [tmp_path / site / "filestorage/Data.fs" for site in ("one", "two")]
    assert files[0].read_bytes() == files[1].read_bytes()
    configuration = (tmp_path / "two/zeo.conf").read_text()
    for line in "read-only true", "invalidation-queue-size 50", "keep-alive-delay 5":
        assert f"  {line}\n" in configuration
    with contextlib.closing(client(zeo, tmp_path / "packing")) as storage:
        storage.pack(wait=True)
    assert not files[0].with_name("Data.fs.old").exists()


def test_the_containers_program_without_replication(
    tmp_path: Path, start: Callable[..., Program]
) -> None:
    port = free_port()
    process = start(SERVER, ZRS_DATA=str(tmp_path / "data"), ZEO_PORT=str(port))
    tid = commit_a_blob(port, tmp_path / "cache")
    assert read_the_blob(port, tmp_path / "cache", tid) == b"large"
    assert "zrs" not in (tmp_path / "data/zeo.conf").read_text()
    healthy = subprocess.run(
        [SERVER, "healthy"],
        env={"PATH": os.environ["PATH"], "ZEO_PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (healthy.returncode, healthy.stderr) == (0, "")
    assert f"0x{tid.hex()}" in healthy.stdout
    process.end()
    dead = subprocess.run(
        [SERVER, "healthy"],
        env={"PATH": os.environ["PATH"], "ZEO_PORT": str(port)},
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert dead.returncode == 1


def test_a_value_of_two_lines_is_refused(tmp_path: Path) -> None:
    result = subprocess.run(
        [SERVER],
        env={"PATH": os.environ["PATH"], "ZRS_DATA": str(tmp_path), "ZEO_PORT": "1\n</zeo>"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (result.returncode, result.stderr) == (
        2, "zeo-server: ZEO_PORT has more than one line\n"
    )  # fmt: skip
    assert not (tmp_path / "zeo.conf").exists()


def test_the_containers_program_is_a_posix_shells() -> None:
    shell = shutil.which("dash") or "/bin/sh"
    subprocess.run([shell, "-n", SERVER], check=True)


def test_the_containers_program_writes_the_configuration(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in ("runzeo", 'cat "$2"'), ("last-zeo-transaction", 'echo "$@"'):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)

    def run(*arguments: str, **variables: str) -> list[str]:
        done = subprocess.run(
            [SERVER, *arguments],
            env={"PATH": f"{programs}:{os.environ['PATH']}", **variables},
            capture_output=True,
            text=True,
            check=True,
        )
        return [line.strip() for line in done.stdout.splitlines()]

    lines = run(
        ZRS_DATA=f"{tmp_path}/a $ of data",
        ZRS_REPLICATE_TO="8101",
        ZRS_ALLOW="10.0.0.0/8 192.168.1.7",
        ZRS_SSL_CERTIFICATE="/run/secrets/one.pem",
        ZRS_SSL_AUTHENTICATE="/run/secrets/others.pem",
        ZRS_RECONNECT_DELAY="5",
    )
    assert {"allow 10.0.0.0/8 192.168.1.7", "reconnect-delay 5", "replicate-to 8101"} <= {
        *lines
    }
    assert "node-name backup" in run(
        ZRS_DATA=f"{tmp_path}/b", ZRS_REPLICATE_FROM="primary:8101", ZRS_NODE_NAME="backup"
    )
    begin, end = lines.index("<ssl>"), lines.index("</ssl>")
    assert lines[begin + 1 : end] == [
        "certificate /run/secrets/one.pem",
        "authenticate /run/secrets/others.pem",
    ]
    assert f"path {tmp_path}/a $$ of data/filestorage/Data.fs" in lines
    assert "<ssl>" not in run(ZRS_DATA=f"{tmp_path}/other", ZRS_REPLICATE_TO="8101")
    assert run("healthy", ZEO_ADDRESS="18100")[0].endswith(" 127.0.0.1:18100")
    assert run("healthy", ZEO_ADDRESS="/run/zeo.sock")[0].endswith(" /run/zeo.sock")
