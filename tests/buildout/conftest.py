"""Make shared modules importable for these tests, and install zc.buildout."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))

from building import run
from guide import CHECKOUT

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


@pytest.fixture(scope="session")
def wheels() -> Path:
    directory = Path(os.environ.get("ZRS_WHEELS") or CHECKOUT / "dist")
    if not list(directory.glob("zrs-*.whl")):
        pytest.fail(f"there is no wheel in {directory}: run `make build`")
    return directory.absolute()


@pytest.fixture(scope="session")
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
