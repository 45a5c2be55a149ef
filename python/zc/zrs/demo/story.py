"""The demo from beginning to end."""

import bisect
import contextlib
import filecmp
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import transaction
import ZODB
from ZODB.utils import readable_tid_repr, tid_repr

from zc.zrs.demo import database, processes
from zc.zrs.demo.display import progress, show_line
from zc.zrs.demo.processes import DemoFailed
from zc.zrs.system.quantities import format_size

TRANSACTIONS = 600
LIVE_TIME = 2.0
CATCH_UP_TIMEOUT = 60.0
COMMITS_WHILE_DOWN = 30


def run_demo(directory: Path | None = None, *, keep: bool = False) -> int:
    """Show replication between two processes; return 0 if every check succeeded."""
    # Both log at length about the remains of a killed process, which are expected here.
    logging.getLogger("ZEO").setLevel(logging.CRITICAL + 1)
    logging.getLogger("ZODB.FileStorage").setLevel(logging.ERROR)
    with _directory(directory, keep=keep) as place:
        try:
            _run_steps(place)
        except DemoFailed as failure:
            show_line(f"FAILED: {failure}")
            return 1
    return 0


@contextlib.contextmanager
def _directory(directory: Path | None, *, keep: bool) -> Iterator[Path]:
    """Yield an empty directory for the databases, and remove it unless `keep` is true."""
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
    if keep:
        place = Path(tempfile.mkdtemp(prefix="zrs-demo-", dir=directory))
        yield place
        show_line(f"The databases are in {place}")
    else:
        with tempfile.TemporaryDirectory(prefix="zrs-demo-", dir=directory) as name:
            yield Path(name)


def _run_steps(place: Path) -> None:
    primary_path, secondary_path = place / "primary.fs", place / "secondary.fs"
    show_line("1. An application's database")
    with progress("transactions", TRANSACTIONS) as show:
        database.build(primary_path, TRANSACTIONS, show)
    tids = database.transaction_ids(primary_path)
    show_line(f"  {len(tids)} transactions, {format_size(primary_path.stat().st_size)}")

    with contextlib.ExitStack() as running:
        show_line("2. A primary and an empty secondary")
        primary = processes.primary(primary_path)
        running.callback(primary.kill)
        secondary = processes.secondary(secondary_path, primary.replication)
        running.callback(secondary.kill)
        show_line(f"  primary: replication on {primary.replication}, ZEO on {primary.zeo}")
        show_line(f"  secondary: ZEO on {secondary.zeo}")
        reader = secondary.client(read_only=True)
        running.callback(reader.close)
        _watch_catching_up(reader, tids)

        show_line("3. The application keeps committing, and the secondary follows")
        committer = Committer(primary, tids)
        running.callback(committer.stop)
        _watch_lag(reader, committer, LIVE_TIME)

        show_line("4. Kill the secondary while it receives data (SIGKILL)")
        began = len(tids)
        _watch_lag(reader, committer, LIVE_TIME / 4)
        secondary.kill()
        _check_killed_in_mid_stream(secondary_path, committer, began)
        committer.wait_for(COMMITS_WHILE_DOWN)
        secondary = processes.secondary(secondary_path, primary.replication, secondary.zeo)
        running.callback(secondary.kill)
        show_line(f"  restarted, at least {COMMITS_WHILE_DOWN} commits behind")
        _watch_lag(reader, committer, LIVE_TIME)

        show_line("5. The application pauses, and the secondary catches up completely")
        committer.stop()
        _watch_catching_up(reader, tids)
        secondary.stop()
        primary.stop()
    _verify(primary_path, secondary_path, tids)


class Committer:
    """Commits through a ZEO client of the primary, in a thread, as fast as it can."""

    def __init__(self, primary: processes.Server, tids: list[bytes]) -> None:
        self.tids = tids
        self._db = ZODB.DB(primary.client(read_only=False))
        self._stopped = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            manager = transaction.TransactionManager()
            connection = self._db.open(manager)
            writer = database.Writer(connection)
            while not self._stopped.is_set():
                writer.revise_articles(3)
                writer.add_articles(2)
                manager.commit()
                self.tids.append(self._db.lastTransaction())
            connection.close()
        except BaseException as failure:  # noqa: BLE001 -- raised by `check`
            self._failure = failure

    def wait_for(self, commits: int) -> None:
        """Wait until this number of further transactions are committed."""
        goal = len(self.tids) + commits

        def reached() -> bool:
            self.check()
            return len(self.tids) >= goal

        _wait(reached, "the commits")

    def check(self) -> None:
        """Raise `DemoFailed` if a commit has failed."""
        if self._failure is not None:
            raise DemoFailed(f"a commit failed: {self._failure!r}") from self._failure

    def stop(self) -> None:
        """End the commits."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._thread.join()
            self._db.close()
        self.check()


def _behind(tids: list[bytes], tid: bytes) -> int:
    """Return how many of the transactions come after `tid`."""
    return len(tids) - bisect.bisect_right(tids, tid)


def _watch_catching_up(reader: Any, tids: list[bytes]) -> None:
    total = len(tids)
    with progress("transactions replicated", total) as show:

        def caught_up() -> bool:
            behind = _behind(tids, reader.lastTransaction())
            show(total - behind)
            return not behind

        _wait(caught_up, "the secondary to catch up")


def _watch_lag(reader: Any, committer: Committer, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.25)
        committer.check()
        tids = committer.tids
        lag = _behind(tids, reader.lastTransaction())
        show_line(f"  {len(tids)} transactions, the secondary is {lag} behind")


def _check_killed_in_mid_stream(path: Path, committer: Committer, began: int) -> None:
    """Check that the secondary's file ends within the stream, not before or after it."""
    # The secondary may have had all transactions when it was killed, but lacks one more commit.
    committer.wait_for(1)
    tids = committer.tids
    last = database.last_transaction(path)
    if not tids[began - 1] < last < tids[-1]:
        raise DemoFailed("the secondary was not killed while it received data")
    position = bisect.bisect_left(tids, last)
    if tids[position] != last:
        raise DemoFailed(
            f"the secondary ends with {tid_repr(last)}, which is not the primary's"
        )
    show_line(
        f"  its file ends with transaction {position + 1}:"
        f" the stream had gone on from {began}, and the primary goes on beyond {len(tids)}"
    )


def _verify(primary_path: Path, secondary_path: Path, tids: list[bytes]) -> None:
    show_line("Verified:")
    last = [database.last_transaction(path) for path in (primary_path, secondary_path)]
    if not last[0] == last[1] == tids[-1]:
        raise DemoFailed("the last transactions differ: " + ", ".join(map(tid_repr, last)))
    show_line(f"  same last transaction: {readable_tid_repr(last[0])}")
    if not filecmp.cmp(primary_path, secondary_path, shallow=False):
        raise DemoFailed(f"{primary_path} and {secondary_path} differ")
    show_line(f"  files byte-identical: {primary_path.stat().st_size} bytes")
    (count, digest), copied = map(database.contents, (primary_path, secondary_path))
    if (count, digest) != copied:
        raise DemoFailed(f"the application finds {copied} instead of {(count, digest)}")
    show_line(
        f"  application data equal, through a fresh ZODB.DB: {count} items, {digest[:16]}"
    )


def _wait(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + CATCH_UP_TIMEOUT
    while not condition():
        if time.monotonic() > end:
            raise DemoFailed(f"waited {CATCH_UP_TIMEOUT:.0f} s for {what}")
        time.sleep(0.02)
