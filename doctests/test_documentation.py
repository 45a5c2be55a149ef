"""The documentation is true: every block of its pages is run."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from doctests.pages.blocks import DOCS, Block, PageError, blocks, name_of, pages
from doctests.pages.running import BlockError, run

from certificates.making import Authority
from interop.old_peers import ZRS31
from zookeeper.servers import standalone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from doctests.pages.machines import Network

MOST_NOT_RUN = 9
LANGUAGES = {"console", "python", "text", "xml", "yaml"}


# Files with certificates and secrets that pages expect.
CERTIFICATES = {
    "docs/tls.md": [
        "/etc/zrs/secondary.pem",
        "/etc/zrs/secondary.key",
        "/etc/zrs/authority.pem",
    ],
    "docs/zookeeper.md": [
        "/etc/zookeeper/ca.pem",
        "/etc/zeo/certificate.pem",
        "/etc/zeo/key.pem",
        "/etc/zeo/password",
    ],
}


def blocks_of(page: Path) -> list[Block]:
    return blocks(page.read_text(), name_of(page))


@pytest.fixture(params=pages(), ids=name_of)
def page(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


@pytest.fixture
def prepare(page: Path, tmp_path: Path) -> Iterator[Callable[[Network], object]]:
    """Prepare what a page expects: certificates, a ZooKeeper."""
    name = name_of(page)
    if name in CERTIFICATES:
        authority = Authority(tmp_path, "authority")
        certificate, key = authority.issue("localhost")
        texts = {
            ".key": key,
            "key.pem": key,
            "authority.pem": authority.path,
            "ca.pem": authority.path,
        }

        def write(network: Network) -> None:
            for path in CERTIFICATES[name]:
                file = next((texts[end] for end in texts if path.endswith(end)), certificate)
                network.machine("").write(path, file.read_text())

        yield write
    elif name == "docs/how-to/zookeeper.md":
        with standalone(tmp_path / "zookeeper") as server:
            port = int(server.address.rpartition(":")[2])
            yield lambda network: network.fix("zookeeper", "2181", port)
    else:
        yield lambda network: network.machine("")


def test_every_block_does_what_its_page_says(
    page: Path,
    prepare: Callable[[Network], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    report_count: Callable[[str], None],
) -> None:
    found = blocks_of(page)
    name = name_of(page)
    if any("/opt/zc.zrs/" in block.text for block in found):
        _ = ZRS31.python  # skips if it is not installed
    if shutil.which("curl") is None and any("$ curl " in block.text for block in found):
        pytest.skip("there is no curl, which the page uses (Debian: apt-get install curl)")
    here = tmp_path / "machines" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    count = run(name, found, tmp_path / "machines", prepare)
    shown = sum(block.language == "text" and not block.not_run for block in found)
    not_run = [block for block in found if block.not_run]
    assert count + shown + len(not_run) == len(found)
    report_count(f"{name}: {count} of {len(found)} blocks run, {shown} only shown")
    for block in not_run:
        report_count(f"{block}: not run, {block.not_run}")
    for block in found:
        if block.instead:
            report_count(f"{block}: run instead, {block.instead}")


def test_few_blocks_are_not_run() -> None:
    every = [block for page in pages() for block in blocks_of(page)]
    assert {block.language for block in every} <= LANGUAGES
    assert sum(bool(block.not_run or block.instead) for block in every) <= MOST_NOT_RUN


def test_a_false_page_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def tell(page: str) -> None:
        run("page", blocks(page, "page"), tmp_path, lambda network: network.machine(""))

    tell("```console\n$ echo 8100 > port && echo done\ndone\n```\n")
    for false in (
        "```console\n$ echo done\nother\n```\n",
        "```console\n$ echo done\n```\n",
        "```console\n$ false\n```\n",
        "```python\n>>> 1 + 1\n3\n```\n",
        "```xml\n# /etc/zrs/unused.conf\n<zeo>\n  address 8200\n</zeo>\n<mappingstorage 1/>\n```\n",
        "```sh\ntrue\n```\n",
    ):
        with pytest.raises(BlockError):
            tell(false)
    tell("```console\n$ false\n$ echo $?\n1\n```\n")
    for wrong in "```\n```\n", "```console\n", "* ```\n", "Text\n\n    indented\n":
        with pytest.raises(PageError):
            tell(wrong)


def test_every_page_is_in_the_site() -> None:
    """Sphinx checks that too, but not in the tests."""
    index = (DOCS / "index.md").read_text()
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS).with_suffix("").as_posix()
        assert name == "index" or f"\n{name}\n" in index, name
