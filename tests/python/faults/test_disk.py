"""A secondary's disk that is full, and one that fails at times."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest
import ZODB.FileStorage

from replicas.comparison import assert_identical, assert_prefix_of_live_file
from replicas.processes import program, read_line
from replicas.transactions import commit
from replicas.waiting import wait_caught_up, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from replicas.opening import Opener

# A limit on the length of files emulates a disk of that size: writing fails in the same way,
# except for the errno.
FULL = """
import resource, ZODB.FileStorage
from zc.zrs.filestorage import FileStorage
logging.basicConfig(level=logging.ERROR, stream=sys.stdout, format="%(levelname)s %(message)s")
engine = {"python": ZODB.FileStorage.FileStorage, "rust": FileStorage}[sys.argv[3]]
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
secondary = Secondary(engine(SECONDARY), ("127.0.0.1", int(sys.argv[2])), reconnect_delay=0.1)
sys.stdin.readline()
status = secondary.status()
say("status", status["last_error"]["message"], status["errors_by_kind"], status["state"])
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
say("room")
sys.stdin.readline()
secondary.close()
say("closed")
"""


@pytest.mark.parametrize("engine", ["python", "rust"])
def test_a_full_disk(opener: Opener, engine: str) -> None:
    """The secondary keeps what it has, reports the error, and continues when there is space."""
    primary = opener.primary()
    for n in range(40):
        commit(primary, {n: b"x" * 20_000})
    assert isinstance(primary.address, tuple)
    arguments = (str(primary.address[1]), engine)
    with program(FULL, opener.directory, *arguments) as process:
        assert process.stdin is not None
        said = read_line(process)
        assert said.startswith("CRITICAL ")
        assert "too large" in said
        assert "transaction aborted" in said
        assert_prefix_of_live_file(opener.path, opener.copy)
        assert opener.copy.stat().st_size <= 300_000
        process.stdin.write("\n")
        process.stdin.flush()
        while not said.startswith("status"):
            said = read_line(process)
        assert "too large" in said
        assert "'storage'" in said
        while said != "room":
            said = read_line(process)
        size = opener.path.stat().st_size
        wait_until(lambda: opener.copy.stat().st_size == size, "it goes on")
        output, errors = process.communicate("\n", timeout=60)
        assert (process.returncode, errors) == (0, "")
        assert output.endswith("closed\n")
    assert_identical(opener.path, opener.copy)


class FailingStorage(ZODB.FileStorage.FileStorage):  # type: ignore[misc]
    """A file storage whose syncs sometimes fail, in a vote or a finish."""

    failures = 0
    calls = 0

    def _fail_sometimes(self) -> None:
        type(self).calls += 1
        if self.calls % 5 == 0:
            type(self).failures += 1
            raise OSError(errno.EIO, "Input/output error")

    def tpc_vote(self, *args: Any) -> Any:
        self._fail_sometimes()
        return super().tpc_vote(*args)

    def tpc_finish(self, *args: Any) -> Any:
        self._fail_sometimes()
        return super().tpc_finish(*args)


def test_a_disk_that_fails_now_and_then(opener: Opener) -> None:
    primary = opener.primary()
    storage = FailingStorage(str(opener.copy))
    secondary = opener.secondary(primary, storage, reconnect_delay=0.01)
    for n in range(60):
        commit(primary, {n % 9: b"data %d" % n * 20})
    wait_caught_up(primary, secondary)
    assert storage.failures > 10
    status = secondary.status()
    assert status["errors_by_kind"]["storage"] == storage.failures
    assert_identical(opener.path, opener.copy)


def test_a_primary_whose_disk_fails(opener: Opener) -> None:
    """Failed commits are not sent, and successful ones are."""
    storage = FailingStorage(str(opener.path))
    primary = opener.primary(storage)
    secondary = opener.secondary(primary)

    def try_to_commit(n: int) -> bytes | None:
        try:
            return commit(primary, {n % 9: b"data %d" % n * 20})
        except OSError:
            primary.tpc_abort(storage._transaction)
            return None

    tids = [tid for n in range(60) if (tid := try_to_commit(n))]
    assert 10 < len(tids) < 60
    wait_caught_up(primary, secondary)
    assert [t.tid for t in secondary.iterator()] == tids
    assert_identical(opener.path, opener.copy)


def test_a_removed_directory(opener: Opener, tmp_path: Path) -> None:
    """No file can be opened in it any more; open files keep working."""
    place = tmp_path / "place"
    place.mkdir()
    primary = opener.primary()
    secondary = opener.secondary(primary, str(place / "copy.fs"))
    commit(primary, {0: b"data"})
    wait_caught_up(primary, secondary)
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    commit(primary, {0: b"more data"})
    wait_caught_up(primary, secondary)
