"""The ZEO server that ``zkrunzeo`` runs: it registers its address in ZooKeeper."""

import contextlib
import importlib.metadata
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ZEO.runzeo

import zc.zk
from zc.zkzeo import monitor
from zc.zkzeo.retirement import close_connections, wait_until_left
from zc.zrs.system.address import show_address
from zc.zrs.system.unix_socket import remove_stale
from zc.zrs.zookeeper.register_as import address_to_register

LOOP_TIMEOUT = 10.0  # seconds

REGISTER_TIMEOUT = 30.0
"""Seconds that `test` waits for the registration."""


class Options(ZEO.runzeo.ZEOOptions):  # type: ignore[misc]  # noqa: D101 -- below
    # The text of --help.
    __doc__ = f"""Run a ZEO server that registers its address in ZooKeeper.

The configuration is that of ZEO's runzeo, with an additional section <zookeeper>. The options are
those of ZEO's runzeo, and --version, which prints the version of zrs:

{ZEO.runzeo.__doc__}"""
    schemadir = str(Path(__file__).parent)

    def __init__(self) -> None:
        super().__init__()
        self.add("zookeeper", "zookeeper")

    def print_version(self, dummy: object) -> None:  # noqa: ARG002 -- zdaemon's signature
        """Print our version, not that of zdaemon, and exit."""
        sys.stdout.write(f"zkrunzeo {importlib.metadata.version('zrs')}\n")
        sys.exit(0)


class Server(ZEO.runzeo.ZEOServer):  # type: ignore[misc]
    """A ZEO server with its registration."""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.registration: zc.zk.Registration | None = None
        self.status = 0
        self.storages: dict[str, Any] = {}
        self._zk: zc.zk.ZooKeeper | None = None
        self._monitor: monitor.MonitorServer | None = None
        self._looping = threading.Event()
        self._closing = threading.Lock()
        self._closed = False

    def can_connect(self, family: int, address: Any) -> bool:
        """Return whether another server already listens on the address."""
        # ZEO's own method leaves its socket open.
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                return probe.connect_ex(address) == 0
            except socket.gaierror:
                return False  # listening fails too, which is reported

    def clear_socket(self) -> None:
        """Remove a UNIX socket without a server; ZEO's own method removes any file."""
        if isinstance(self.options.address, str):
            remove_stale(self.options.address)

    def create_server(self) -> None:
        """Listen, and register the address as soon as possible."""
        section = self.options.zookeeper
        if section is not None and isinstance(self.options.address, str):
            self.options.usage("a UNIX socket cannot be registered in ZooKeeper")
        with self._reporting(f"cannot listen on {self._format_address(self.options.address)}"):
            super().create_server()
        if section is None:
            return
        address = self.server.acceptor.addr
        properties = {}
        if section.monitor_server is not None:
            with self._reporting(
                f"monitor-server {self._format_address(section.monitor_server)}"
            ):
                properties["monitor"] = zc.zk.format_addr(self._start_monitor(section))
        with self._reporting("cannot connect to ZooKeeper", (ImportError, OSError, ValueError)):
            self._zk = zc.zk.ZooKeeper(
                section.connection, section.session_timeout, connect=False, **section.options
            )
        self.registration = self._zk.registration(
            section.path,
            address_to_register(section.register_as, self.options.address[0] or "", address[1]),
            properties,
        )
        self.registration.register_later()

    @contextlib.contextmanager
    def _reporting(
        self, what: str, errors: tuple[type[Exception], ...] = (OSError,)
    ) -> Iterator[None]:
        """Exit with an error message for errors of the system, as for a wrong configuration."""
        try:
            yield
        except errors as error:
            self.options.usage(f"{what}: {error}")

    @staticmethod
    def _format_address(address: Any) -> str:
        if isinstance(address, str):
            return address
        return show_address((address[0] or "", address[1] or 0))

    def _start_monitor(self, section: Any) -> Any:
        stats = monitor.json_command(self.server.ruok, "Show the storages' statistics")
        self._monitor = monitor.MonitorServer(section.monitor_server, {"stats": stats})
        return self._monitor.address

    def shut_down(self) -> None:
        """Withdraw the registration, wait for the clients to leave, then close the server.

        Called in another thread than the server's. Does nothing the second time.
        """
        # A loop that does not run yet would not be stopped.
        if self.server is not None:
            self._looping.wait(LOOP_TIMEOUT)
        self._shut_down()

    def _shut_down(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
            if self._zk is not None:
                self._zk.close()
            if self._monitor is not None:
                self._monitor.close()
            if self.server is None:
                return
            loop = self.server.acceptor.event_loop
            if loop.is_running():
                if self._zk is not None:
                    wait_until_left(self.server)
                close_connections(self.server)
            self.server.close()

    def close_server(self) -> None:
        """Close everything that is open, at the end or after an error."""
        self._shut_down()
        if self.server is None:
            for storage in self.storages.values():
                storage.close()
        super().close_server()
        self._looping.set()

    def loop_forever(self) -> None:
        """Serve, until the server is shut down."""
        loop = self.server.acceptor.event_loop
        loop.call_soon(self._looping.set)
        with self._signals_wake(loop):
            super().loop_forever()

    @contextlib.contextmanager
    def _signals_wake(self, loop: Any) -> Iterator[None]:
        """Let signals wake the loop while the block runs.

        Python calls the handlers when the loop's thread runs. A signal that arrives just before
        the loop waits would otherwise be handled only when a client sends something.
        """
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.settimeout(0)
            theirs.settimeout(0)
            loop.add_reader(ours, ours.recv, 4096)
            before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
            try:
                yield
            finally:
                signal.set_wakeup_fd(before)

    def handle_sigterm(self) -> None:
        """Withdraw the registration, then exit."""
        self._end(0, "terminated by SIGTERM")

    def handle_sigint(self) -> None:
        """Withdraw the registration, then exit."""
        self._end(0, "terminated by SIGINT")

    def handle_sighup(self) -> None:
        """Exit with the status that makes a supervisor start the server again."""
        self._end(1, "restarted by SIGHUP")

    def handle_sigusr1(self) -> None:
        """Ignore the signal, which would end the process by default."""
        ZEO.runzeo.log("received SIGUSR1, which has no effect")

    def _end(self, status: int, why: str) -> None:
        if self.server is None:
            ZEO.runzeo.log(why)
            sys.exit(status)
        self.status = status

        # The loop of this thread runs until the clients have left. The signal may have
        # interrupted a call of the log, which cannot be entered again.
        def end() -> None:
            ZEO.runzeo.log(why)
            self.shut_down()

        threading.Thread(target=end, name="zkrunzeo end").start()


class _TestServer(Server):
    """A server in a thread of a process that has its own signals and its own log."""

    def setup_signals(self) -> None:
        """Do not change the process's signals."""

    def setup_default_logging(self) -> None:
        """Do not change the process's log."""

    @contextlib.contextmanager
    def _signals_wake(self, loop: Any) -> Iterator[None]:  # noqa: ARG002
        """Do nothing: signals belong to the main thread."""
        yield


class ServerThread(threading.Thread):
    """The thread of a server; `exception` is the error that has ended it, if any."""

    def __init__(self, server: Server) -> None:
        super().__init__(name="zkrunzeo", daemon=True)
        self.server = server
        self.exception: BaseException | None = None

    def run(self) -> None:
        """Run the server."""
        try:
            self.server.main()
        except BaseException as error:  # noqa: BLE001 -- it is for whoever has started it
            self.exception = error


def test(config: str) -> Callable[[], ServerThread]:
    """Run a server in a thread, for tests and experiments.

    :param config: a configuration's text, or the name of a file

    Returns, once the server is registered, a function that stops it and returns its thread.
    Raises the error that has kept the server from running, or `zc.zk.FailedConnect`.
    """
    with contextlib.ExitStack() as stack:
        filename = config
        if "\n" in config:
            file = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".conf"))
            file.write(config)
            file.flush()
            filename = file.name
        options = Options()
        options.realize(["-C", filename])
    server = _TestServer(options)
    thread = ServerThread(server)
    thread.start()

    def stop() -> ServerThread:
        server.shut_down()
        thread.join()
        return thread

    try:
        _wait_registered(thread)
    except BaseException:
        stop()
        raise
    return stop


# Not a test of pytest.
test.__test__ = False  # type: ignore[attr-defined]


def _wait_registered(thread: ServerThread) -> None:
    server = thread.server
    waited = 0.0
    poll = 0.02
    while thread.is_alive() and waited < REGISTER_TIMEOUT:
        registration = server.registration
        if registration is not None:
            if registration.registered.wait(poll):
                return
            if registration.problem:
                raise RuntimeError(registration.problem)
        elif server.options.zookeeper is None and server.server is not None:
            return
        else:
            thread.join(poll)
        waited += poll
    if thread.exception is not None:
        raise thread.exception
    raise zc.zk.FailedConnect(server.options.zookeeper.connection)


def main(args: list[str] | None = None) -> None:
    """Run a server until a signal ends it."""
    options = Options()
    options.realize(args)
    server = Server(options)
    server.main()
    sys.exit(server.status)
