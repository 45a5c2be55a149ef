"""Cascades: secondaries that are primaries of others, three levels below the top.

    top ── upper ── middle ── leaf

Each link goes through a proxy, so that it can be cut.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import ZODB.config
from ZODB.FileStorage import FileStorage

from programs import free_port
from replicas.comparison import assert_identical
from replicas.opening import RECONNECT_DELAY
from replicas.proxy import Proxy
from replicas.transactions import commit
from replicas.waiting import DEADLINE, wait_caught_up, wait_until
from zc.zrs.filestorage import FileStorage as RustFileStorage
from zc.zrs.primary import Primary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from replicas.opening import Opener

LEVELS = ("top", "upper", "middle", "leaf")


class Cascade:
    """A primary, two secondaries that are primaries, and a secondary, one below the other."""

    def __init__(self, opener: Opener, make: Any) -> None:
        self.directory = opener.directory
        self.proxies: list[Proxy] = []
        self.top = opener.primary(make(str(self.path("top"))))
        self.storages: list[Any] = []
        above = self.top
        for level in LEVELS[1:]:
            storage = make(str(self.path(level)))
            served = storage if level == "leaf" else opener.primary(storage)
            # Each connection breaks after this many bytes.
            self.proxies.append(Proxy(above.address, [3000, 7000, 20_000, 1]))
            self.storages.append(opener.secondary(self.proxies[-1].address, served))
            above = served
        self.leaf = self.storages[-1]

    def path(self, level: str) -> Path:
        """Return the path of a level's Data.fs."""
        return self.directory / f"{level}.fs"

    def close(self) -> None:
        """Close the links."""
        for proxy in self.proxies:
            proxy.close()


@pytest.fixture(params=[FileStorage, RustFileStorage], ids=["python", "rust"])
def cascade(request: pytest.FixtureRequest, opener: Opener) -> Iterator[Cascade]:
    cascade = Cascade(opener, request.param)
    yield cascade
    cascade.close()


def test_writes_arrive_at_the_leaf_though_every_link_breaks(cascade: Cascade) -> None:
    for number in range(60):
        commit(cascade.top, {number % 7: b"%d" % number * 500})
    wait_caught_up(cascade.top, cascade.leaf)
    last = commit(cascade.top, {0: b"one more"})
    wait_until(lambda: cascade.leaf.lastTransaction() == last)
    for level in LEVELS[1:]:
        assert_identical(cascade.path("top"), cascade.path(level))
    # Each link did break.
    assert all(proxy.connections > 2 for proxy in cascade.proxies)


class Holding(FileStorage):  # type: ignore[misc]
    """A file storage whose `tpc_finish` writes everything, but returns only when allowed."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.written, self.may_return = threading.Event(), threading.Event()

    def tpc_finish(self, *args: Any) -> Any:
        result = super().tpc_finish(*args)
        self.written.set()
        assert self.may_return.wait(DEADLINE)
        return result


def test_transactions_that_the_middle_has_not_finished_are_not_sent(opener: Opener) -> None:
    top = opener.primary()
    holding = Holding(str(opener.directory / "middle.fs"))
    middle = opener.primary(holding)
    opener.secondary(top, middle)
    leaf = opener.secondary(middle, str(opener.directory / "leaf.fs"))
    tid = commit(top, {0: b"data"})
    try:
        assert holding.written.wait(DEADLINE)
        with pytest.raises(AssertionError):
            wait_until(lambda: leaf.lastTransaction() == tid, "a leak", 0.3)
    finally:
        holding.may_return.set()
    wait_until(lambda: leaf.lastTransaction() == tid)


def test_a_cascade_of_configurations(tmp_path: Path) -> None:
    ports = [free_port() for _ in range(3)]
    options = [
        [f"replicate-to 127.0.0.1:{ports[0]}"],
        [f"replicate-to 127.0.0.1:{ports[1]}", f"replicate-from 127.0.0.1:{ports[0]}"],
        [f"replicate-to 127.0.0.1:{ports[2]}", f"replicate-from 127.0.0.1:{ports[1]}"],
        [f"replicate-from 127.0.0.1:{ports[2]}"],
    ]
    storages = []
    try:
        for level, lines in zip(LEVELS, options, strict=True):
            if "replicate-from" in "".join(lines):
                lines.append(f"reconnect-delay {RECONNECT_DELAY}")
            lines.append(f"filestorage-path {tmp_path}/{level}.fs")
            section = "\n".join(["%import zc.zrs", "<zrs>", *lines, "</zrs>"])
            storages.append(ZODB.config.storageFromString(section))
        top, leaf = storages[0], storages[-1]
        assert isinstance(top, Primary)
        last = commit(top, {0: b"data"})
        wait_until(lambda: leaf.lastTransaction() == last)
        assert_identical(tmp_path / "top.fs", tmp_path / "leaf.fs")
    finally:
        for storage in reversed(storages):
            storage.close()
