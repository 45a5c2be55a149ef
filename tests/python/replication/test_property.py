"""A secondary always has a prefix of its primary's history, and all of it in the end.

Random histories pass through a proxy that cuts connections at random bytes, while the secondary
is closed and reopened, or killed. `ZRS_EXAMPLES` sets the number of histories of each kind; the
default keeps the run short, 5000 take a night.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from ZODB._compat import loads

from replicas import strategies
from replicas.client import Client
from replicas.comparison import assert_identical, assert_prefix
from replicas.opening import LOOPBACK
from replicas.processes import finish, program
from replicas.proxy import Proxy
from replicas.transactions import read_transactions
from replicas.waiting import wait_caught_up, wait_until
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

EXAMPLES = int(os.environ.get("ZRS_EXAMPLES", "0"))
RECONNECT_DELAY = 0.01


def examples(number: int) -> settings:
    """Return settings for this many examples, unless the environment sets another number."""
    return settings(
        max_examples=EXAMPLES or number,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


pytestmark = pytest.mark.timeout(0 if EXAMPLES else 300)


@contextlib.contextmanager
def primary_in(directory: Path) -> Iterator[Primary]:
    with contextlib.closing(Primary(str(directory / "primary.fs"), LOOPBACK)) as primary:
        yield primary


@contextlib.contextmanager
def temporary_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@examples(120)
@given(
    history=strategies.histories,
    limits=strategies.limits,
    reopenings=st.sets(st.integers(0, 24), max_size=4),
    catching_up=st.sets(st.integers(0, 24), max_size=4),
    first=st.integers(0, 24),
)
def test_cut_closed_and_reopened(
    history: list[strategies.Step],
    limits: list[int],
    reopenings: set[int],
    catching_up: set[int],
    first: int,
) -> None:
    """`first` steps precede the secondary; the sets are of later steps."""
    with (
        temporary_directory() as directory,
        primary_in(directory) as primary,
        contextlib.closing(Proxy(primary.address, limits)) as proxy,
        contextlib.ExitStack() as stack,
    ):
        path, copy = directory / "primary.fs", directory / "secondary.fs"

        def open_secondary() -> Secondary:
            secondary = Secondary(str(copy), proxy.address, reconnect_delay=RECONNECT_DELAY)
            stack.callback(secondary.close)
            return secondary

        tids: list[bytes] = []
        secondary: Secondary | None = None
        for number, step in enumerate(history):
            step.apply(primary, tids)
            if number < first and number + 1 < len(history):
                continue
            if secondary is None:
                secondary = open_secondary()
            if number in reopenings:
                secondary.close()
                assert_prefix(path, copy)
                secondary = open_secondary()
            if number in catching_up:
                wait_caught_up(primary, secondary)
                assert_identical(path, copy)
            assert_prefix(path, copy)
        assert secondary is not None
        wait_caught_up(primary, secondary)
        assert [t.tid for t in read_transactions(copy)] == tids
        assert_identical(path, copy)


KILLABLE = """
secondary = Secondary(SECONDARY, (sys.argv[2], int(sys.argv[3])), reconnect_delay=0.01)
say("open")
sys.stdin.read()
secondary.close()
say("closed")
"""


class KilledSecondary:
    """A secondary in a process that is killed at each limit of a proxy, and restarted."""

    def __init__(self, directory: Path, primary: Primary, limits: list[int]) -> None:
        self.deaths = 0
        self._directory = directory
        self._process: subprocess.Popen[str] | None = None
        self._mortal = threading.Lock()
        self._proxy = Proxy(primary.address, limits, self._kill)

    def _kill(self, _: int) -> None:
        with self._mortal:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
                self.deaths += 1

    def run(self, primary_path: Path) -> None:
        """Run and kill until everything is replicated; check the prefix after each kill."""
        while not self._replicated(primary_path):
            assert_prefix(primary_path, self._directory / "secondary.fs")

    def _replicated(self, primary_path: Path) -> bool:
        """Run once; return whether everything was replicated before the kill."""
        deaths = self.deaths
        expected = len(read_transactions(primary_path))

        def is_over() -> bool:
            found = read_transactions(self._directory / "secondary.fs")
            return self.deaths > deaths or len(found) == expected

        host, port = self._proxy.address
        source = "logging.disable(logging.CRITICAL)\n" + KILLABLE
        with program(source, self._directory, host, str(port)) as process:
            self._process = process
            wait_until(is_over, "all is replicated, or it is killed")
            with self._mortal:
                self._process = None
                if self.deaths > deaths:
                    return False
            return finish(process).split() == ["open", "closed"]

    def close(self) -> None:
        self._proxy.close()


@examples(12)
@given(
    history=strategies.histories,
    limits=st.lists(st.integers(0, 3000), min_size=1, max_size=3),
)
def test_killed(history: list[strategies.Step], limits: list[int]) -> None:
    with temporary_directory() as directory, primary_in(directory) as primary:
        tids: list[bytes] = []
        for step in history:
            step.apply(primary, tids)
        path, copy = directory / "primary.fs", directory / "secondary.fs"
        with contextlib.closing(KilledSecondary(directory, primary, limits)) as secondary:
            secondary.run(path)
            event(f"killed {secondary.deaths} times")
        assert [t.tid for t in read_transactions(copy)] == tids
        assert_identical(path, copy)


@examples(120)
@given(history=strategies.histories)
def test_any_client_understands_what_is_sent(history: list[strategies.Step]) -> None:
    """A client that unpickles the headers, as zc.zrs does, receives what ZODB would read."""
    with temporary_directory() as directory, primary_in(directory) as primary:
        tids: list[bytes] = []
        for step in history:
            step.apply(primary, tids)
        expected = read_transactions(directory / "primary.fs")
        with Client(primary.address) as client:
            received = client.take(len(tids))
    for got, transaction in zip(received, expected, strict=True):
        assert got[:4] == transaction[:4]
        extension = loads(transaction.extension) if transaction.extension else {}
        assert canonical(got.extension) == canonical(extension)
        assert got.records == transaction.records


def canonical(value: Any) -> Any:
    """Return a comparable form: some values equal nothing, not even themselves."""
    if isinstance(value, dict):
        return "dict", sorted(repr((canonical(k), canonical(v))) for k, v in value.items())
    if isinstance(value, set | frozenset):
        return type(value).__name__, sorted(repr(canonical(item)) for item in value)
    if isinstance(value, list | tuple):
        return type(value).__name__, [canonical(item) for item in value]
    if isinstance(value, strategies.Marker):
        return "Marker", canonical(value.value), canonical(value.next)
    return repr(value)
