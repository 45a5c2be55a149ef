"""The pages of docs/reference are complete, and other pages name nothing else."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import time
import urllib.request
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
import yaml
import ZConfig
import ZODB
from doctests.pages.blocks import CHECKOUT, DOCS, blocks
from doctests.pages.configurations import metrics_in

import zc.zrs.zk
from zc.zrs.filestorage import FileStorage
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary
from zc.zrs.status.metrics import HELP

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

PATIENCE = 60  # seconds, far longer than anything here takes
REFERENCE = DOCS / "reference"
SCHEMA = """
<schema>
  <import package="zc.zrs"/>
  <import package="zc.zkzeo"/>
  <multisection name="*" type="ZODB.storage" attribute="storages"/>
</schema>
"""
# Names of sections that differ from those of their types.
WRITTEN = {"zrs.ssl": "ssl"}


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    """Return docs/write_reference.py as a module."""
    path = DOCS / "write_reference.py"
    spec = importlib.util.spec_from_file_location("write_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def part(page: str, heading: str) -> str:
    """Return the text below a heading of a page."""
    _, _, text = f"\n{page}".partition(f"\n## `{heading}`\n")
    assert text, heading
    return text.partition("\n## ")[0]


def test_pages_agree_with_the_source(writer: ModuleType) -> None:
    for name, text in writer.pages().items():
        found = (REFERENCE / name).read_text()
        assert found == text, f"{name} is out of date: python docs/write_reference.py"


def test_every_option_of_the_sections_is_documented() -> None:
    """Compared with ZConfig's schema, from which the page is not generated."""
    page = (REFERENCE / "configuration.md").read_text()
    schema = ZConfig.loadSchemaFile(StringIO(SCHEMA))
    names = {
        *("primary", "secondary", "zrs", "zrs.ssl", "zookeeper-options", "zkzeoclient"),
        *("replicate-from-zookeeper-options",),
    }
    for name in names:
        text = part(page, f"<{WRITTEN.get(name, name)}>")
        section = schema.gettype(name)
        keys = {key for key, _ in section if key is not None}
        assert keys or "It also has the options of" in text
        if "It also has the options of" not in text:
            assert {key for key in keys if f"| `{key}` |" not in text} == set(), name


def test_every_option_of_the_commands_is_documented(writer: ModuleType) -> None:
    """Compared with `--help`, from which the page is not generated."""
    page = (REFERENCE / "command-line.md").read_text()
    programs = set()
    for parser in writer.parsers():
        programs.add(parser.prog)
        text = part(page, parser.prog)
        options = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", parser.format_help()))
        missing = {o for o in options - {"-h", "--help"} if not re.search(rf"`{o}\b", text)}
        # Options that are mentioned in a description or a help text are also in the text.
        assert all(option in text for option in missing), (parser.prog, missing)
    assert {"zrs primary", "zrs bootstrap", "dobbin check", "zrs-nagios"} <= programs
    scripts = (CHECKOUT / "pyproject.toml").read_text()
    scripts = scripts.partition("[project.scripts]\n")[2].partition("\n\n")[0]
    for line in scripts.splitlines():
        command = line.partition(" =")[0]
        assert re.search(rf"`{command}[ `]", page), command


def served(address: Any) -> str:
    host, port = address
    with urllib.request.urlopen(f"http://{host}:{port}/metrics") as answer:
        text: str = answer.read().decode()
        return text


def test_every_metric_is_documented_and_no_other(tmp_path: Path) -> None:
    page = (REFERENCE / "metrics.md").read_text()
    found = re.findall(r"^\| `(zrs_\w+)` \| [\w, ]+ \| (\w*) *\|", page, re.MULTILINE)
    rows = dict(found)
    assert len(rows) == len(found)
    status_address = ("127.0.0.1", 0)
    with contextlib.ExitStack() as opened:

        def closing(storage: Any) -> Any:
            return opened.enter_context(contextlib.closing(storage))

        def with_blobs(name: str) -> Any:
            return FileStorage(str(tmp_path / f"{name}.fs"), blob_dir=str(tmp_path / name))

        first = closing(Primary(with_blobs("1"), ("127.0.0.1", 0)))
        with ZODB.DB(first).transaction() as connection:
            connection.root()["x"] = 1
        # Nothing listens there, but ZooKeeper's metrics exist nevertheless.
        nowhere = ("127.0.0.1:1", "/primaries")
        middle = zc.zrs.zk.Primary(with_blobs("2"), ("127.0.0.1", 0), *nowhere)
        both = closing(zc.zrs.zk.Secondary(middle, *nowhere, status_address=status_address))
        both.setReplicationAddresses(first.address)
        closing(Secondary(with_blobs("3"), middle.address))
        end = time.monotonic() + PATIENCE
        text = ""
        # Some metrics appear once connections have data.
        while metrics_in(text) != rows.keys():
            assert time.monotonic() < end, metrics_in(text) ^ rows.keys()
            time.sleep(0.05)
            text = served(both.status_address)
    assert rows.keys() == HELP.keys()
    # Metrics of the storage have no labels.
    for name, label in rows.items():
        lines = re.findall(rf"^{name}{{(.*)}} ", text, re.MULTILINE)
        labels = {found for line in lines for found in re.findall(r'(\w+)="', line)}
        assert labels - {"role", "peer"} == {label} - {""}, name


def test_pages_name_only_existing_metrics() -> None:
    for page in DOCS.rglob("*.md"):
        assert metrics_in(page.read_text()) <= HELP.keys(), page
    page = DOCS / "how-to" / "monitoring.md"
    rules = [
        rule
        for block in blocks(page.read_text(), page.name)
        if block.language == "yaml"
        for group in yaml.safe_load(block.text).get("groups", [])
        for rule in group["rules"]
    ]
    assert len(rules) > 5
    for rule in rules:
        assert metrics_in(rule["expr"]) or rule["expr"].startswith("up{")


def test_the_failure_matrix_names_existing_tests() -> None:
    text = (DOCS / "explanation" / "failures.md").read_text()
    rows = [line for line in text.splitlines() if re.match(r"\| (?!fault |---)", line)]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`((?:doc)?tests/[\w/]+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"\ndef {test}(" in (CHECKOUT / file).read_text(), row
