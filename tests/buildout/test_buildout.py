"""The guide's buildouts, through the real zc.buildout, with the wheel just built.

It needs the network and a minute or two, so `make test` leaves it out. The wheel is taken
from `dist`, or from the directory that the environment variable ZRS_WHEELS names. Where the
guide fetches a bootstrap script for Python 2.4, buildout's own command does the same today.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import transaction
import ZODB
from ZEO.ClientStorage import ClientStorage

from guide import CHECKOUT, Samples, guide_samples

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(900)

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
TIMEOUT = 60


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def run(directory: Path, *command: str | Path) -> None:
    result = subprocess.run(
        [*map(str, command)],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


@pytest.fixture(scope="module")
def samples() -> Samples:
    return guide_samples()


@pytest.fixture(scope="module")
def wheels() -> Path:
    directory = Path(os.environ.get("ZRS_WHEELS") or CHECKOUT / "dist")
    if not list(directory.glob("zrs-*.whl")):
        pytest.fail(f"there is no wheel in {directory}: run `make build`")
    return directory.absolute()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a virtual environment with zc.buildout."""
    directory = tmp_path_factory.mktemp("environment")
    run(directory, sys.executable, "-m", "venv", directory)
    pip: list[str | Path] = [
        directory / "bin" / "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    run(directory, *pip, "-r", REQUIREMENTS)
    return directory


def substituted(sample: str, wheels: Path, ports: dict[str, int]) -> str:
    """Return a sample with the eggs, places and ports of this test."""
    text = sample.replace("eggs = ZODB3\n", "eggs = ZODB\n       ZEO\n")
    text = text.replace(" zc.zrs_eval\n", " zrs\n")
    text = re.sub(r"(?m)^find-links = .*$", f"find-links = {wheels}", text)
    text = text.replace("primary-host:", "127.0.0.1:")
    return re.sub(
        r"(?m)(?<=address )(\S*:)?(\d+)$",
        lambda found: f"{found[1] or ''}{ports[found[2]]}",
        text,
    )


class Site:
    """A directory with a buildout in it, and the server that it makes."""

    def __init__(self, directory: Path, name: str, zeo_port: int) -> None:
        self.directory = directory / name
        self.directory.mkdir()
        self.name = name
        self.addr = ("127.0.0.1", zeo_port)

    def build(self, environment: Path, configuration: str, eggs: Path) -> None:
        (self.directory / "buildout.cfg").write_text(configuration)
        # Not in the sample, for eggs that both sites share.
        shared = f"buildout:eggs-directory={eggs}"
        run(self.directory, environment / "bin" / "buildout", shared, "bootstrap")
        run(self.directory, "bin/buildout", shared)
        server = (self.directory / "bin" / "runzeo").read_text()
        assert re.search(r"/zrs-[^/]*\.egg'", server)

    def control(self, command: str) -> None:
        run(self.directory, f"bin/{self.name}", command)

    def client(self, *, read_only: bool) -> Any:
        storage = ClientStorage(self.addr, read_only=read_only, wait_timeout=TIMEOUT)
        assert storage.is_connected()
        return storage


def test_the_guides_buildouts(
    samples: Samples, wheels: Path, environment: Path, tmp_path: Path
) -> None:
    assert len(samples.buildout) == 2
    replication = free_port()
    sites = []
    for sample, name in zip(samples.buildout, ["primary", "secondary"], strict=True):
        site = Site(tmp_path, name, free_port())
        ports = {"8100": site.addr[1], "8101": replication}
        site.build(environment, substituted(sample, wheels, ports), tmp_path / "eggs")
        sites.append(site)
    primary, secondary = sites
    try:
        primary.control("start")
        writer = ZODB.DB(primary.client(read_only=False))
        secondary.control("start")
        reader = secondary.client(read_only=True)
        with writer.transaction() as connection:
            connection.root()["x"] = 1
        wait_for(lambda: reader.lastTransaction() == writer.lastTransaction())
        reading = ZODB.DB(reader)
        assert reading.open(transaction.TransactionManager()).root()["x"] == 1
        reading.close()
        writer.close()
    finally:
        for site in reversed(sites):
            site.control("stop")
    contents = {(s.directory / f"{s.name}.fs").read_bytes() for s in sites}
    assert len(contents) == 1
