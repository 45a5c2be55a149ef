"""Our own narratives are true, and every example in them runs."""

from __future__ import annotations

import doctest
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from zookeeper.servers import standalone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NARRATIVES = sorted((Path(__file__).parent / "narratives").glob("*.rst"))
OPTIONS = doctest.ELLIPSIS | doctest.REPORT_ONLY_FIRST_FAILURE
PATIENCE = 60  # seconds, far longer than anything in the documents takes


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that another thread fulfils."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "timeout"
        time.sleep(0.01)


def test_there_are_narratives() -> None:
    assert [narrative.stem for narrative in NARRATIVES] == [
        "configuring",
        "listening",
        "objects",
        "replicating",
        "zookeeper",
    ]


@pytest.fixture
def names(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Define the names that a narrative uses: for ZooKeeper, a server's address."""
    if request.node.callspec.params["narrative"].stem != "zookeeper":
        yield {"wait_until": wait_until}
        return
    with standalone(tmp_path / "zookeeper") as server:
        yield {"wait_until": wait_until, "zookeeper": server.address}


@pytest.mark.parametrize("narrative", NARRATIVES, ids=lambda path: path.stem)
def test_narrative_is_true(
    narrative: Path, names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    failures, attempted = doctest.testfile(
        str(narrative),
        module_relative=False,
        optionflags=OPTIONS,
        globs=names,
    )
    assert attempted > 0
    assert failures == 0
