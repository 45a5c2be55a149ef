"""The guide's buildouts, run by the real zc.buildout with the wheel just built.

It requires the network and a minute or two, so `make test` does not run it. The wheel is taken
from `dist`, or from the directory in the environment variable ZRS_WHEELS. The guide fetches a
bootstrap script for Python 2.4; today buildout's own command does the same.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import transaction
import ZODB
from ZEO.ClientStorage import ClientStorage

from building import TIMEOUT, free_port, run, wait_for
from guide import Samples, guide_samples

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def samples() -> Samples:
    return guide_samples()


def substituted(sample: str, wheels: Path, ports: dict[str, int]) -> str:
    """Return a sample with the eggs, paths and ports of this test."""
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
    """A directory with a buildout, and the server that it builds."""

    def __init__(self, directory: Path, name: str, zeo_port: int) -> None:
        self.directory = directory / name
        self.directory.mkdir()
        self.name = name
        self.addr = ("127.0.0.1", zeo_port)

    def build(self, environment: Path, configuration: str, eggs: Path) -> None:
        (self.directory / "buildout.cfg").write_text(configuration)
        # Not in the sample: both sites share eggs.
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
