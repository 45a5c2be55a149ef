"""Make shared modules importable for the tests, and close the storages that they open."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# With the import mode importlib, pytest does not add this directory to sys.path.
sys.path.insert(0, str(Path(__file__).parent))

# Show the values of failed assertions in these modules too.
pytest.register_assert_rewrite("replicas", "conformance")

import zc.zrs.storages.engine  # noqa: E402 -- after the setting above
from replicas.opening import Opener  # noqa: E402 -- not importable before

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_configure() -> None:
    """Make programs that tests start interruptible.

    A shell starts its background jobs with SIGINT ignored, and their children inherit that. If
    this process has a handler, its children start with the default.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests marked `both_engines` with our FileStorage and with ZODB's."""
    if metafunc.definition.get_closest_marker("both_engines"):
        metafunc.fixturenames.append("engine")
        metafunc.parametrize("engine", zc.zrs.storages.engine.ENGINES, indirect=True)


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make an engine the default, which opens storages given as a path."""
    monkeypatch.setattr(zc.zrs.storages.engine, "DEFAULT_ENGINE", request.param)
    return str(request.param)


@pytest.fixture
def opener(tmp_path: Path) -> Iterator[Opener]:
    """Open storages for a test, and close them."""
    opener = Opener(tmp_path)
    yield opener
    opener.close()
