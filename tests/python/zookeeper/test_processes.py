"""Forks and ends of processes, and leaks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from replicas.processes import finish, program, read_line, run
from replicas.waiting import wait_until
from zookeeper.servers import (
    IS_FULL,
    ZooKeeperServer,
    require_zookeeper,
    slow,
)
from zookeeper.zeo import (
    PATH,
    configuration,
)

if TYPE_CHECKING:
    from zc.zk import ZooKeeper


FORKING = """
import zc.zk, zc.zkzeo
zk = zc.zk.ZooKeeper(sys.argv[2])
registration = zk.register_server("/servers", ("127.0.0.1", 1))
children = zk.children("/servers")
client = zc.zkzeo.client(sys.argv[2], "/servers", wait=False)
session = zk.session_id

pid = os.fork()
if not pid:
    # What was inherited is the parent's: to close it does nothing, to use it is an error.
    assert list(children) == ["127.0.0.1:1"]
    registration.withdraw()
    client.close()
    zk.close()
    for use in (lambda: zk.get_children("/"), lambda: zk.register_server("/", "x:1")):
        try:
            use()
        except zc.zk.Forked:
            pass
        else:
            os._exit(1)
    own = zc.zk.ZooKeeper(sys.argv[2])
    own.register_server("/servers", ("127.0.0.1", 2))
    own.close()
    {end}
assert os.waitpid(pid, 0)[1] == 0
time.sleep(1.5)  # longer than a session lives that nobody keeps
assert zk.session_id == session
assert zk.get_children("/servers") == ["127.0.0.1:1"]
client.close()
zk.close()
say("good")
"""


@pytest.mark.parametrize("end", ["os._exit(0)", pytest.param("sys.exit(0)", marks=slow)])
def test_fork(zk: ZooKeeper, hosts: str, tmp_path: Path, end: str) -> None:
    zk.create_recursive(PATH)
    quiet = "import warnings\nwarnings.simplefilter('ignore', DeprecationWarning)\n"
    assert run(quiet + FORKING.format(end=end), tmp_path, hosts) == "good\n"


FORKED_CLIENT = """
import zc.zk, zc.zkzeo, zc.zkzeo.runzeo
logging.getLogger().addHandler(logging.NullHandler())
stop = zc.zkzeo.runzeo.test(sys.argv[3])
for options in (dict(), dict(server_sync=True), dict(server_sync=False)):
    db = zc.zkzeo.DB(sys.argv[2], "/servers", **options)
    with db.transaction() as connection:
        connection.root()["x"] = 1
    storage = db.storage

    def begin():
        with db.transaction() as connection:
            connection.root()

    calls = dict(
        begin=begin,
        load=lambda: storage.loadBefore(bytes(7) + bytes([99]), storage.lastTransaction()),
        undo=lambda: storage.undoLog(0, 1),
        pack=lambda: storage.pack(0),
    )
    pid = os.fork()
    if not pid:
        bad = 1
        try:
            for call in calls.values():
                try:
                    call()
                except zc.zk.Forked:
                    continue
                break
            else:
                bad = 0
        finally:
            os._exit(bad)
    assert os.waitpid(pid, 0)[1] == 0, options
    with db.transaction() as connection:
        assert connection.root()["x"] == 1
    db.close()
stop()
say("good")
"""


def test_a_client_in_a_forked_process_raises(zk: ZooKeeper, hosts: str, tmp_path: Path) -> None:
    zk.create_recursive(PATH)
    quiet = "import warnings\nwarnings.simplefilter('ignore', DeprecationWarning)\n"
    config = configuration(hosts, tmp_path / "Data.fs")
    assert run(quiet + FORKED_CLIENT, tmp_path, hosts, config) == "good\n"


LEAVING = """
import zc.zk, zc.zkzeo, zc.zkzeo.runzeo, zc.zrs.zk

logging.getLogger().addHandler(logging.NullHandler())

def look():
    descriptors = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        descriptors.add((name, target.partition(":")[0]))
    return {t.name for t in threading.enumerate()}, descriptors

config = sys.argv[3]

def all_of_it():
    stop = zc.zkzeo.runzeo.test(config)
    zk = zc.zk.ZooKeeper(sys.argv[2])
    zk.children("/servers")(lambda children: None)
    zk.properties("/servers")(lambda properties: None)
    db = zc.zkzeo.DB(sys.argv[2], "/servers")
    stop()
    db.close()
    zk.create_recursive("/primaries")
    primary = zc.zrs.zk.Primary(PRIMARY, LOOPBACK, sys.argv[2], "/primaries")
    secondary = zc.zrs.zk.Secondary(SECONDARY, sys.argv[2], "/primaries")
    wait_caught_up(primary, secondary)
    primary.close()
    secondary.close()
    zk.delete_recursive("/primaries", force=True)
    zk.close()
    refused = zc.zk.ZooKeeper(sys.argv[2], connect=False, auth_data=[("no-such-scheme", "x")])
    wait_until(lambda: refused._reported)  # after its second attempt
    refused.close()
    for wrong in dict(wait_timeout=1), dict(no_such_option=1):
        try:
            zc.zkzeo.client(sys.argv[2], "/servers", **wrong)
        except Exception:
            pass

all_of_it()
before = look()
for _ in range(int(sys.argv[4])):
    all_of_it()
after = look()
assert after[0] == before[0] == {"MainThread"}, (before[0], after[0])
assert len(after[1]) == len(before[1]), after[1] ^ before[1]
say("good")
"""


def sessions(server: ZooKeeperServer) -> int:
    """Return the number of clients connected to a server."""
    return server.command("cons").count("sid=")


def test_nothing_is_left_after_close(own_server: ZooKeeperServer, tmp_path: Path) -> None:
    config = configuration(
        own_server.address, tmp_path / "Data.fs", more="monitor-server 127.0.0.1"
    )
    times = "4" if IS_FULL else "1"
    with program(LEAVING, tmp_path, own_server.address, config, times) as process:
        line = read_line(process)
        assert line == "good"
        wait_until(lambda: sessions(own_server) == 0)
        finish(process)


RUNNING_TESTS = """
from zookeeper.servers import standalone

with standalone(directory / "zookeeper") as server:
    say(server.pid)
    sys.stdin.read()
"""


def test_servers_do_not_outlive_tests_that_are_killed(tmp_path: Path) -> None:
    require_zookeeper()
    with program(RUNNING_TESTS, tmp_path) as process:
        server = Path("/proc") / read_line(process)
        assert server.exists()
        process.kill()
    wait_until(lambda: not server.exists())
