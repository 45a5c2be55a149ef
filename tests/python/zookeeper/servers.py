"""ZooKeeper servers: ordinary processes on loopback with their data in directories."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import kazoo.client
import pytest

from programs import free_port
from replicas.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

JARS = Path("/usr/share/java")
NAMES = ("zookeeper.jar", "slf4j-log4j12.jar", "log4j-1.2.jar")
# Required for TLS. The manifest of Debian's zookeeper.jar lacks netty's codec.
NETTY = ("netty-codec.jar", "netty-resolver.jar", "netty-handler.jar", "netty-transport.jar")

JAVA = (
    "-Xms16m",
    "-Xmx64m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dzookeeper.jmx.log4j.disable=true",
    "-Djava.net.preferIPv4Stack=true",
    # This mode, the default since ZooKeeper 3.9, does not support DIGEST-MD5.
    "-Dzookeeper.fips-mode=false",
)
# Servers end when the tests end, in whatever way.
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")

MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"

CONFIGURATION = {
    "tickTime": 500,
    "minSessionTimeout": 1000,
    "maxSessionTimeout": 60000,
    "clientPortAddress": "127.0.0.1",
    "maxClientCnxns": 0,
    "admin.enableServer": "false",
    "4lw.commands.whitelist": "*",
    "forceSync": "no",
    "preAllocSize": 1024,
    "initLimit": 20,
    "syncLimit": 10,
}

LOGGING = """\
log4j.rootLogger=INFO, LOG
log4j.appender.LOG=org.apache.log4j.ConsoleAppender
log4j.appender.LOG.layout=org.apache.log4j.PatternLayout
log4j.appender.LOG.layout.ConversionPattern=%d{ISO8601} %p %c{1}: %m%n
"""

IS_FULL = "ZRS_ZOOKEEPER" in os.environ
"""Whether this is `make zookeeper`."""

slow = pytest.mark.skipif(not IS_FULL, reason="slow: make zookeeper")

STARTS = 5
"""How often a server is started anew because somebody has taken the port meanwhile."""


def require_zookeeper(*further_jars: str) -> None:
    """Skip the test if ZooKeeper is not installed, or fail it if CI is set."""
    missing = [name for name in (*NAMES, *further_jars) if not (JARS / name).exists()]
    if shutil.which("java") and not missing:
        return
    reason = (
        "no ZooKeeper for the tests: install Java and ZooKeeper"
        " (Debian: apt-get install zookeeper default-jre-headless)"
        f"; missing: {', '.join(missing) or 'java'}"
    )
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def dies_with_us() -> tuple[str, ...]:
    """Return a command prefix that makes the system end the command when we are killed."""
    return DIES_WITH_US if shutil.which(DIES_WITH_US[0]) else ()


class ZooKeeperServer:
    """A server that can be killed, frozen and started again with its data."""

    def __init__(
        self, directory: Path, java: Sequence[str] = (), **configuration: object
    ) -> None:
        """Choose a port; `configuration` are lines of zoo.cfg, `java` options of Java."""
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "log4j.properties").write_text(LOGGING)
        self.configuration = {**CONFIGURATION, "dataDir": directory, **configuration}
        self._java = java
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def address(self) -> str:
        """The address for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """Its log so far."""
        return (self.directory / "server.log").read_text(errors="replace")

    def start(self) -> None:
        """Start the process."""
        lines = {**self.configuration, "clientPort": self.port}
        configuration = self.directory / "zoo.cfg"
        configuration.write_text("".join(f"{key}={lines[key]}\n" for key in lines))
        jars = [str(JARS / name) for name in (*NAMES, *NETTY)]
        classes = os.pathsep.join([str(self.directory), *jars])
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *dies_with_us(),
                    shutil.which("java") or "java",
                    *JAVA,
                    *self._java,
                    "-cp",
                    classes,
                    MAIN,
                    str(configuration),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
            )

    def wait_ready(self) -> None:
        """Wait until it serves; fail if it ends instead."""
        wait_until(lambda: self.mode or self._has_ended(), "the ZooKeeper server serves")
        assert not self._has_ended(), self.log

    def _has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    @property
    def mode(self) -> str:
        """Its current role: `standalone`, `leader`, `follower`, or empty."""
        found = re.search(r"^Mode: (\w+)", self.command("srvr"), re.MULTILINE)
        return found[1] if found else ""

    def command(self, word: str) -> str:
        """Return the answer to one of ZooKeeper's commands, or an empty string."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(word.encode())
                return b"".join(iter(lambda: connection.recv(4096), b"")).decode()
        except OSError:
            return ""

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End the process, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kill and restart it, with its data and port."""
        self.kill()
        self.start()
        self.wait_ready()


@contextlib.contextmanager
def standalone(
    directory: Path, java: Sequence[str] = (), **configuration: object
) -> Iterator[ZooKeeperServer]:
    """Run a server during the block."""
    require_zookeeper()
    for attempt in range(STARTS):
        server = ZooKeeperServer(directory / str(attempt), java, **configuration)
        server.start()
        try:
            server.wait_ready()
        except AssertionError:
            server.kill()
            if "Address already in use" in server.log and attempt < STARTS - 1:
                continue
            raise
        break
    try:
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def ensemble(directory: Path) -> Iterator[list[ZooKeeperServer]]:
    """Run three servers, one of them the leader, during the block."""
    require_zookeeper()
    numbers = (1, 2, 3)
    members = {
        f"server.{number}": f"127.0.0.1:{free_port()}:{free_port()}" for number in numbers
    }
    servers = []
    for number in numbers:
        server = ZooKeeperServer(
            directory / str(number),
            **members,
            standaloneEnabled="false",
            quorumListenOnAllIPs="false",
        )
        (server.directory / "myid").write_text(str(number))
        servers.append(server)
    try:
        for server in servers:
            server.start()
        for server in servers:
            server.wait_ready()
        yield servers
    finally:
        for server in servers:
            server.kill()


def connection_string(servers: list[ZooKeeperServer], chroot: str = "") -> str:
    """Return the connection string of these servers."""
    return ",".join(server.address for server in servers) + chroot


@contextlib.contextmanager
def plain_client(hosts: str) -> Iterator[kazoo.client.KazooClient]:
    """Yield a kazoo client, to inspect or change nodes."""
    client = kazoo.client.KazooClient(hosts, timeout=20)
    client.start()
    try:
        yield client
    finally:
        client.stop()
        client.close()


def make_chroot(server: ZooKeeperServer) -> str:
    """Make an empty tree; return the connection string with it as root."""
    chroot = f"/test-{uuid.uuid4().hex}"
    with plain_client(server.address) as client:
        client.create(chroot)
    return server.address + chroot


def expire_session(client: kazoo.client.KazooClient, hosts: str) -> None:
    """End a client's session without its knowledge, as the servers do after its timeout."""
    thief = kazoo.client.KazooClient(hosts, timeout=10, client_id=client.client_id)
    thief.start()
    thief.stop()
    thief.close()


FREEZE, THAW = signal.SIGSTOP, signal.SIGCONT
