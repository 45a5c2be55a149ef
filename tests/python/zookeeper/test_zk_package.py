"""The older distribution zc.zk, installed with this one, which has the same package."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("kazoo", reason="zc.zk needs kazoo: pip install 'zrs[zookeeper]'")


def run(directory: Path, module: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "default", "-c", f"import {module}"],
        env={**os.environ, "PYTHONPATH": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )


def install_metadata(directory: Path) -> None:
    metadata = directory / "zc.zk-2.1.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: zc.zk\nVersion: 2.1.0\n")


@pytest.mark.parametrize("module", ["zc.zkzeo", "zc.zrs.zk"])
@pytest.mark.parametrize(
    "code", ["ZooKeeper = None\n", "print 'Python 2'\n", "import zc.gone\n"]
)
def test_files_that_it_has_replaced_are_an_error(
    tmp_path: Path, module: str, code: str
) -> None:
    install_metadata(tmp_path)
    package = tmp_path / "zc" / "zk" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text(code)
    result = run(tmp_path, module)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("ImportError: zc.zk 2.1.0 replaced files of zrs")
    assert "pip uninstall zc.zk zc.zkzeo" in last


@pytest.mark.parametrize("module", ["zc.zkzeo", "zc.zrs.zk"])
def test_files_that_it_would_remove_cause_a_warning(tmp_path: Path, module: str) -> None:
    install_metadata(tmp_path)
    result = run(tmp_path, module)
    assert result.returncode == 0
    assert "zc.zk 2.1.0 contains files with the same names as files of zrs" in result.stderr


@pytest.mark.parametrize("module", ["zc.zkzeo", "zc.zrs.zk"])
def test_without_it_there_is_no_warning(tmp_path: Path, module: str) -> None:
    result = run(tmp_path, module)
    assert result.returncode == 0
    assert "zc.zk" not in result.stderr
