"""The process: forks, exit, signals, logging, leaks."""

from __future__ import annotations

import signal
import sys
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from replicas.client import Client
from replicas.comparison import assert_identical, assert_prefix
from replicas.opening import tcp_address
from replicas.processes import finish, program, read_line, run
from replicas.transactions import commit
from replicas.waiting import DEADLINE, wait_caught_up, wait_until

if TYPE_CHECKING:
    from replicas.opening import Opener

# --- forks --------------------------------------------------------------------------

FORK = """
def child():
    # What was inherited is the parent's: to close it here does nothing.
    primary.close()
    secondary.close()
    own = directory / f"child{os.getpid()}"
    own.mkdir()
    opener = Opener(own)
    own_primary = opener.primary()
    own_secondary = opener.secondary(own_primary)
    for n in range(20):
        commit(own_primary, {n: b"child"})
    wait_caught_up(own_primary, own_secondary)
    assert_identical(opener.path, opener.copy)
    opener.close()

primary = Primary(PRIMARY, LOOPBACK)
secondary = Secondary(SECONDARY, primary.address, reconnect_delay=0.2)
commit(primary, {0: b"before the fork"})
wait_caught_up(primary, secondary)
"""
AFTER_FORK = """
for n in range(20):
    commit(primary, {n: b"parent, after the fork"})
wait_caught_up(primary, secondary)
assert_identical(Path(PRIMARY), Path(SECONDARY))
primary.close()
secondary.close()
say("good")
"""


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(0)"])
def test_fork(tmp_path: Path, end: str) -> None:
    source = f"""
pid = os.fork()
if not pid:
    child()
    {end}
commit(primary, {{0: b"while the child lives"}})
_, status = os.waitpid(pid, 0)
assert status == 0, status
"""
    assert run(quiet_fork(FORK + source + AFTER_FORK), tmp_path) == "good\n"


def test_multiprocessing_by_fork(tmp_path: Path) -> None:
    source = """
processes = [multiprocessing.get_context("fork").Process(target=child) for _ in range(3)]
for process in processes:
    process.start()
for process in processes:
    process.join()
    assert process.exitcode == 0
"""
    assert run(quiet_fork(FORK + source + AFTER_FORK), tmp_path) == "good\n"


def test_a_fork_of_a_fork(tmp_path: Path) -> None:
    source = """
def grandchild_and_child():
    opener = Opener(directory)
    inherited = opener.primary(str(directory / "inherited.fs"))
    pid = os.fork()
    child()
    if pid:
        assert os.waitpid(pid, 0)[1] == 0
    opener.close()

process = multiprocessing.get_context("fork").Process(target=grandchild_and_child)
process.start()
process.join()
assert process.exitcode == 0
"""
    assert run(quiet_fork(FORK + source + AFTER_FORK), tmp_path) == "good\n"


def test_forks_at_any_moment(tmp_path: Path) -> None:
    # Threads may hold our locks when the process is forked.
    source = """
class Formatting(logging.Handler):
    # Not to a file: files have locks that CPython does not mend after a fork.
    def emit(self, record):
        record.getMessage()

logging.getLogger().addHandler(Formatting())
logging.getLogger().setLevel(logging.DEBUG)
stop = threading.Event()

def commit_until_told():
    n = 0
    while not stop.wait(0.001):
        commit(primary, {n % 10: b"x" * 5000})
        n += 1

def come_and_go():
    while not stop.wait(0.005):
        Client(primary.address).close()

def use_replication():
    primary.close()
    own = Primary(str(directory / f"{os.getpid()}.fs"), LOOPBACK)
    with Client(own.address) as client:
        tid = commit(own, {0: b"child"})
        assert client.take(1)[0].tid == tid
    own.close()

def wait_for(pid, forked):
    end = time.monotonic() + 30
    while (waited := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            # CPython 3.11 may hang in os.fork() itself, when another thread is just
            # being attached to the interpreter; then nothing of ours was run.
            if os.read(forked, 1):
                say("a child hangs")
            return os.waitpid(pid, 0)
        time.sleep(0.002)
    if waited[1]:
        say("a child fails", waited)

threads = [threading.Thread(target=f) for f in (commit_until_told, come_and_go)]
for thread in threads:
    thread.start()
for _ in range(40):
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(write, b"forked")
        use_replication()
        os._exit(0)
    os.close(write)
    wait_for(pid, read)
    os.close(read)
stop.set()
for thread in threads:
    thread.join()
"""
    assert run(quiet_fork(FORK + source + AFTER_FORK), tmp_path) == "good\n"


def quiet_fork(source: str) -> str:
    """Return the program without Python 3.12's warning that forks and threads do not mix."""
    return 'import warnings; warnings.simplefilter("ignore", DeprecationWarning)\n' + source


# --- exit of the interpreter --------------------------------------------------------

OPEN_PRIMARY = """
primary = Primary(PRIMARY, LOOPBACK)
for n in range(50):
    commit(primary, {n: b"x" * 100_000})
client = Client(primary.address)
client.take(1)
"""
OPEN_SECONDARY = """
secondary = Secondary(SECONDARY, (sys.argv[2], int(sys.argv[3])), keep_alive_delay=0.01)
wait_until(lambda: secondary.lastTransaction() > bytes(8))
"""
OPEN_BOTH = """
primary = Primary(PRIMARY, LOOPBACK)
secondary = Secondary(SECONDARY, primary.address, reconnect_delay=0.01)
commit(primary, {0: b"data"})
wait_caught_up(primary, secondary)
"""
COMMITTING = """
def go_on():
    n = 0
    while True:
        commit(primary, {n % 100: b"x" * 10_000})
        n += 1

threading.Thread(target=go_on, daemon=True).start()
time.sleep(0.2)
"""
UNCONNECTED = """
secondary = Secondary(SECONDARY, ("127.0.0.1", 1), reconnect_delay=0.001)
time.sleep(0.2)
"""
CLOSED_AT_EXIT = """
primary = Primary(PRIMARY, LOOPBACK)
secondary = Secondary(SECONDARY, primary.address)
atexit.register(primary.close)
atexit.register(secondary.close)
commit(primary, {0: b"data"})
"""
LOGGING = """
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)  # and so not on standard error
"""
CYCLE = """
import gc
gc.disable()
class Cycle: pass
cycle = Cycle()
cycle.itself, cycle.primary, cycle.secondary = cycle, primary, secondary
del cycle, primary, secondary
"""


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(OPEN_PRIMARY, id="primary"),
        pytest.param(OPEN_SECONDARY, id="secondary"),
        pytest.param(LOGGING + UNCONNECTED, id="unconnected secondary"),
        pytest.param(OPEN_BOTH, id="both"),
        pytest.param(LOGGING + OPEN_BOTH, id="both, logging"),
        pytest.param(OPEN_BOTH + COMMITTING, id="both, committing"),
        pytest.param(LOGGING + OPEN_BOTH + COMMITTING, id="both, logging and committing"),
        pytest.param(OPEN_BOTH + CYCLE, id="both, in a reference cycle"),
        pytest.param(OPEN_BOTH + "del primary, secondary", id="both, forgotten"),
        pytest.param(CLOSED_AT_EXIT, id="both, closed at exit"),
    ],
)
def test_the_interpreter_ends_with_everything_open(
    opener: Opener, tmp_path: Path, source: str
) -> None:
    primary = opener.primary(str(tmp_path / "another.fs"))
    for n in range(100):
        commit(primary, {n: b"x" * 100_000})
    host, port = tcp_address(primary)
    run(source + "\nsay('end')", tmp_path, host, str(port))


def test_the_next_process_continues_with_files_left_open(
    opener: Opener, tmp_path: Path
) -> None:
    primary = opener.primary()
    for n in range(200):
        commit(primary, {n: b"x" * 100_000})
    host, port = tcp_address(primary)
    for _ in range(3):
        run(LOGGING + OPEN_SECONDARY, tmp_path, host, str(port))
        assert assert_prefix(opener.path, opener.copy) > 0
    secondary = opener.secondary(primary)
    wait_caught_up(primary, secondary)
    assert_identical(opener.path, opener.copy)


def test_an_exception_is_all_that_is_printed(tmp_path: Path) -> None:
    with program(OPEN_BOTH + "raise SystemError('my own fault')", tmp_path) as process:
        _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert errors.count("Traceback") == 1
    assert errors.endswith("SystemError: my own fault\n")


# --- signals ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "busy",
    [
        "say('ready'); time.sleep(1000)",
        "say('ready'); threading.Event().wait()",
        "say('ready')\nwhile True: commit(primary, {0: b'data'})",
        # Replication must not delay the signal.
        "say('ready')\nwhile True: secondary.setReplicationAddress(primary.address)",
    ],
)
def test_interrupt(tmp_path: Path, busy: str) -> None:
    # ZODB logs that its commit was interrupted, and then closes the storage.
    source = OPEN_BOTH + textwrap.dedent("""
        logging.basicConfig(filename=directory / "log")
        try:
            BUSY
        except KeyboardInterrupt:
            secondary.close()
            primary.close()
            say("interrupted")
        """).replace("BUSY", busy.replace("\n", "\n    "))
    with program(source, tmp_path) as process:
        assert read_line(process) == "ready"
        process.send_signal(signal.SIGINT)
        assert finish(process) == "interrupted\n"
    assert_prefix(tmp_path / "primary.fs", tmp_path / "secondary.fs")


def test_an_uncaught_interrupt(tmp_path: Path) -> None:
    with program(OPEN_BOTH + "say('ready'); time.sleep(1000)", tmp_path) as process:
        assert read_line(process) == "ready"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1
    assert errors.endswith("KeyboardInterrupt\n")


# --- logging ------------------------------------------------------------------------


def test_logging_configured_at_any_time(tmp_path: Path) -> None:
    # In a separate process, because the order of import and configuration matters.
    source = """
class Memory(logging.Handler):
    def __init__(self):
        super().__init__()
        self.messages = []
    def emit(self, record):
        self.messages.append((record.name, record.levelname, record.getMessage()))

def connect():
    with Client(primary.address) as client:
        tid = commit(primary, {0: b"data"})
        while client.take(1)[0].tid < tid:
            pass
    wait_until(lambda: primary._Primary__server.connections == 0)
    time.sleep(0.05)

def connections(handler):
    connected = [m for m in handler.messages if m[2].endswith("Connected")]
    assert {m[:2] for m in connected} <= {("zc.zrs.primary", "INFO")}
    return len(connected)

primary = Primary(PRIMARY, LOOPBACK)
logger = logging.getLogger("zc.zrs.primary")
connect()
first, second = Memory(), Memory()
logging.getLogger().addHandler(first)
connect()
assert connections(first) == 0, "the root logger's level is WARNING"
logging.getLogger().setLevel(logging.INFO)
connect()
assert connections(first) == 1, "the level was lowered"
logger.setLevel(logging.WARNING)
connect()
assert connections(first) == 1, "the logger's level was raised"
logger.setLevel(logging.DEBUG)
connect()
assert connections(first) == 2, "the logger's level was lowered"
logging.getLogger().removeHandler(first)
logging.getLogger().addHandler(second)
connect()
assert (connections(first), connections(second)) == (2, 1), "another handler"
logging.disable(logging.INFO)
connect()
assert connections(second) == 1, "disabled altogether"
logging.disable(logging.NOTSET)
logger.addFilter(lambda record: "Connected" not in record.getMessage())
connect()
assert connections(second) == 1, "filtered"
logger.filters.clear()
logger.propagate = False
connect()
assert connections(second) == 1, "not propagated"
logger.addHandler(first)
connect()
assert connections(first) == 3, "the logger's own handler"
primary.close()
say("good")
"""
    assert run(source, tmp_path) == "good\n"


def test_a_failing_handler_affects_nothing_else(tmp_path: Path) -> None:
    source = """
class Failing(logging.Handler):
    def emit(self, record):
        raise RuntimeError("no disk left")

logging.getLogger("zc.zrs").addHandler(Failing())
logging.getLogger("zc.zrs").setLevel(logging.CRITICAL + 1)
primary = Primary(PRIMARY, LOOPBACK)
secondary = Secondary(SECONDARY, primary.address, reconnect_delay=0.2)
logging.getLogger("zc.zrs").setLevel(logging.DEBUG)
for n in range(20):
    commit(primary, {n: b"data"})
    Client(primary.address).close()
wait_caught_up(primary, secondary)
assert_identical(Path(PRIMARY), Path(SECONDARY))
logging.getLogger("zc.zrs").setLevel(logging.CRITICAL + 1)
primary.close()
secondary.close()
say("good")
"""
    with program(source, tmp_path) as process:
        output, _ = process.communicate(timeout=DEADLINE)
    assert (process.returncode, output) == (0, "good\n")


# --- leaks --------------------------------------------------------------------------


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.skipif(sys.platform != "linux", reason="files and threads are counted in /proc")
def test_closing_leaves_no_files_and_no_threads(opener: Opener) -> None:
    def use() -> None:
        primary = opener.primary()
        secondary = opener.secondary(primary)
        with Client(primary.address) as client:
            tid = commit(primary, {0: b"data"})
            while client.take(1)[0].tid < tid:
                pass
            wait_caught_up(primary, secondary)
        refused = opener.secondary(("127.0.0.1", 1), str(opener.directory / "refused.fs"))
        for storage in primary, secondary, refused:
            storage.close()

    for _ in range(3):
        use()
    files, tasks, python_threads = open_files(), threads(), threading.active_count()
    rounds = 30
    for _ in range(rounds):
        use()
    wait_until(lambda: open_files() <= files, "the files are closed")
    # Idle threads of the pool stay for a while, and are reused.
    assert threads() < tasks + rounds / 2
    wait_until(lambda: threading.active_count() <= python_threads, "the threads end")
