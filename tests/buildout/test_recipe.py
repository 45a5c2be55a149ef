"""plone.recipe.zeoserver's options for ZRS, run by the real zc.buildout.

The recipe writes a `<zrs>` section if buildout's Python can import `zc.zrs`, so `zrs` is
installed together with buildout. (The recipe's extra `zrs` would require the distribution
zc.zrs.)
"""

from __future__ import annotations

import re
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import transaction
import ZODB
from ZEO.ClientStorage import ClientStorage
from ZODB.blob import Blob

from building import TIMEOUT, free_port, run, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(900)

BUILDOUT = """
[buildout]
parts = {name}
find-links = {wheels}

[{name}]
recipe = plone.recipe.zeoserver
eggs =
    plone.recipe.zeoserver
    zrs
zeo-address = 127.0.0.1:{zeo}
{options}
"""


@contextmanager
def server(  # noqa: PLR0913, PLR0917 -- what a buildout needs
    directory: Path, environment: Path, wheels: Path, name: str, zeo: int, options: str
) -> Iterator[Path]:
    """Build a server, run it during the block, and yield its directory."""
    site = directory / name
    site.mkdir()
    text = BUILDOUT.format(name=name, wheels=wheels, zeo=zeo, options=options)
    (site / "buildout.cfg").write_text(text)
    shared = f"buildout:eggs-directory={directory / 'eggs'}"
    run(site, environment / "bin/buildout", shared, "bootstrap")
    run(site, "bin/buildout", shared)
    run(site, f"bin/{name}", "start")
    try:
        yield site
    finally:
        run(site, f"bin/{name}", "stop")


def client(port: int, blobs: Path, *, read_only: bool) -> Any:
    storage = ClientStorage(
        ("127.0.0.1", port), read_only=read_only, wait_timeout=TIMEOUT, blob_dir=str(blobs)
    )
    assert storage.is_connected()
    return storage


def test_a_primary_and_a_secondary(environment: Path, wheels: Path, tmp_path: Path) -> None:
    (wheel,) = wheels.glob("zrs-*.whl")
    run(tmp_path, environment / "bin/pip", "install", "--quiet", f"{wheel}[zeo]")
    replication, zeo, copy_zeo = free_port(), free_port(), free_port()
    to = f"replicate-to = 127.0.0.1:{replication}"
    # The address on which the secondary would serve other secondaries.
    cascade = f"replicate-to = 127.0.0.1:{free_port()}\nkeep-alive-delay = 5"
    followed = f"replicate-from = 127.0.0.1:{replication}\n{cascade}"
    place = (tmp_path, environment, wheels)
    with server(*place, "primary", zeo, to) as primary:
        configuration = (primary / "parts/primary/etc/zeo.conf").read_text()
        assert re.search(rf"<zrs 1>\s+replicate-to 127.0.0.1:{replication}\n", configuration)
        with server(*place, "secondary", copy_zeo, followed) as secondary:
            configuration = (secondary / "parts/secondary/etc/zeo.conf").read_text()
            assert re.search(r"keep-alive-delay 5\n", configuration)
            with closing(ZODB.DB(client(zeo, tmp_path / "cache", read_only=False))) as db:
                with db.transaction() as connection:
                    connection.root()["blob"] = Blob(b"large")
                tid = db.storage.lastTransaction()
            reader = client(copy_zeo, tmp_path / "copies", read_only=True)
            with closing(reader):
                wait_for(lambda: reader.lastTransaction() == tid)
                reading = ZODB.DB(reader)
                root = reading.open(transaction.TransactionManager()).root()
                with root["blob"].open() as blob:
                    assert blob.read() == b"large"
    files = [site / "var/filestorage/Data.fs" for site in (primary, secondary)]
    assert files[0].read_bytes() == files[1].read_bytes()
