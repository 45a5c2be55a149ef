"""Where the tests find the modules that they share, and what closes what they open."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Tests are imported with importlib, which leaves their directory off sys.path.
sys.path.insert(0, str(Path(__file__).parent))

# What they assert is shown as what tests assert is.
pytest.register_assert_rewrite("replicas", "conformance")

import zc.zrs.storages.engine  # noqa: E402 -- as late as what follows
from replicas.opening import Opener  # noqa: E402 -- not to be found before

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_configure() -> None:
    """Let the programs that tests start be interrupted.

    A shell starts its background jobs with the interrupt ignored, and their children
    inherit that; what has a handler here begins with the default there.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked `both_engines` on our FileStorage and on ZODB's."""
    if metafunc.definition.get_closest_marker("both_engines"):
        metafunc.fixturenames.append("engine")
        metafunc.parametrize("engine", zc.zrs.storages.engine.ENGINES, indirect=True)


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make an engine the default, which opens what is only a path."""
    monkeypatch.setattr(zc.zrs.storages.engine, "DEFAULT_ENGINE", request.param)
    return str(request.param)


@pytest.fixture
def opener(tmp_path: Path) -> Iterator[Opener]:
    """Open storages for a test, and close them."""
    opener = Opener(tmp_path)
    yield opener
    opener.close()
