"""System limits, too many clients, and foreign host names in requests to the small servers."""

from __future__ import annotations

import contextlib
import http.server
import logging
import resource
import socket
import socketserver
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from replicas.opening import LOOPBACK
from replicas.waiting import wait_until
from zc.zkzeo.monitor import MonitorServer
from zc.zrs.status.client import ask
from zc.zrs.status.observer import Observer
from zc.zrs.status.server import StatusServer, _Handler
from zc.zrs.system import bounded_server

if TYPE_CHECKING:
    from collections.abc import Iterator

STATUS: Any = {"state": "listening", "address": LOOPBACK, "tid": None, "peers": []}
TIMEOUT = 30


@pytest.fixture
def server() -> Iterator[StatusServer]:
    """Serve a made-up status of a primary."""
    with contextlib.closing(StatusServer(LOOPBACK)) as server:
        server.start(Observer(STATUS.copy, "primary", "Data.fs"))
        yield server


def answer(client: socket.socket, request: bytes) -> bytes:
    client.settimeout(TIMEOUT)
    client.sendall(request)
    with client.makefile("rb") as lines:
        received: bytes = lines.read()
        return received


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    """Prevent this process from opening files and sockets during the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_it_waits_while_no_connection_can_be_opened(
    server: StatusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []
    accept = socketserver.TCPServer.get_request

    def sleep(seconds: float) -> None:
        tries.append("sleep")
        time.sleep(seconds)

    def get_request(self: Any) -> Any:
        tries.append("accept")
        return accept(self)

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=sleep)
    monkeypatch.setattr(bounded_server, "time", clock)
    monkeypatch.setattr(bounded_server, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(socketserver.TCPServer, "get_request", get_request)
    with socket.socket() as client:
        with no_more_files():
            client.connect(server.address)
            wait_until(lambda: tries.count("accept") > 3)
        assert answer(client, b"GET /live HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 ")
    assert tries == ["accept", "sleep"] * (len(tries) // 2) + ["accept"]


def test_an_unknown_path(server: StatusServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), socket.create_connection(server.address) as client:
        found = answer(client, b"GET http://[bad/live HTTP/1.0\r\n\r\n")
    assert found.startswith(b"HTTP/1.0 400 ")
    assert b"is not a path" in found
    assert caplog.records == []


def first_line(client: socket.socket, request: bytes) -> bytes:
    with contextlib.suppress(ConnectionError):
        return answer(client, request).partition(b"\r\n")[0]
    return b""


def test_slow_clients_do_not_block_others(
    server: StatusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # They do not end otherwise.
    monkeypatch.setattr(type(server._server), "connection_seconds", 1e6)
    monkeypatch.setattr(_Handler, "timeout", 1e6)

    def is_live() -> bool:
        with socket.create_connection(server.address) as client:
            return b" 200 " in first_line(client, b"GET /live HTTP/1.0\r\n\r\n")

    with contextlib.ExitStack() as stack:
        before = threading.active_count()
        for _ in range(3 * bounded_server.MAX_CONNECTIONS):
            client = stack.enter_context(socket.create_connection(server.address))
            with contextlib.suppress(ConnectionError):
                client.sendall(b"GET /live HT")
        # The thread of a closed connection may still be ending.
        wait_until(lambda: threading.active_count() <= before + bounded_server.MAX_CONNECTIONS)
        wait_until(is_live)


NAMES = {
    b"localhost": True,
    b"LOCALHOST.:80": True,
    b"127.0.0.1:1": True,
    b"[::1]:1": True,
    b"192.0.2.1": True,
    socket.gethostname().encode(): True,
    b"status.example": True,
    b"status.example:8080": True,
    b"evil.example": False,
    b"evil.example:80": False,
    b"localhost.evil.example": False,
    b"a@localhost": False,
    b"127.0.0.1.evil.example": False,
    b"localhost:x": False,
    b"": False,
}


@pytest.mark.parametrize("host", NAMES)
def test_it_answers_only_to_its_own_names(host: bytes) -> None:
    with contextlib.closing(StatusServer(LOOPBACK, ["status.example"])) as server:
        server.start(Observer(STATUS.copy, "primary", "Data.fs"))
        with socket.create_connection(server.address) as client:
            found = answer(client, b"GET /status HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert found.startswith(b"HTTP/1.0 200 " if NAMES[host] else b"HTTP/1.0 421 ")
    assert (b"Data.fs" in found) is NAMES[host]


def test_two_hosts_are_refused(server: StatusServer) -> None:
    request = b"GET /status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    with socket.create_connection(server.address) as client:
        assert answer(client, request).startswith(b"HTTP/1.0 421 ")


def test_any_name_on_request() -> None:
    with contextlib.closing(StatusServer(LOOPBACK, "*")) as server:
        server.start(Observer(STATUS.copy, "primary", "Data.fs"))
        with socket.create_connection(server.address) as client:
            found = answer(client, b"GET /live HTTP/1.1\r\nHost: any.example\r\n\r\n")
    assert found.startswith(b"HTTP/1.0 200 ")


def test_quotes_of_a_request_are_truncated(server: StatusServer) -> None:
    for path in b"/status?" + b"x" * 60_000 + b"=1", b"http://[" + b"x" * 60_000:
        with socket.create_connection(server.address) as client:
            found = answer(client, b"GET " + path + b" HTTP/1.0\r\n\r\n")
        assert found.startswith(b"HTTP/1.0 400 ")
        assert len(found) < 2000


@contextlib.contextmanager
def redirecting(where: str) -> Iterator[tuple[str, list[str]]]:
    """Serve redirects; yield the server's address and the requested paths."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", where)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(LOOPBACK, Handler) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{found.server_address[1]}/", asked
        found.shutdown()
        thread.join()


def test_redirects_to_other_servers_and_schemes_are_not_followed(server: StatusServer) -> None:
    with redirecting("http://127.0.0.1:1/") as (target, seen):
        for where in f"{target}status", target.replace("http", "https"), "ftp://127.0.0.1/":
            with redirecting(where) as (url, asked):
                (found,) = ask(url, TIMEOUT)
            assert found.status is None
            assert "302" in str(found.error)
            assert "not followed" in str(found.error)
            assert asked == ["/status"]
    assert seen == []
    assert ask(f"http://127.0.0.1:{server.address[1]}/", TIMEOUT)[0].status


@pytest.fixture
def monitor() -> Iterator[MonitorServer]:
    """Run the command server of zkrunzeo."""
    with contextlib.closing(MonitorServer(LOOPBACK, {})) as monitor:
        yield monitor


def test_the_monitor_server_bounds_its_connections(monitor: MonitorServer) -> None:
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        for _ in range(5 * bounded_server.MAX_CONNECTIONS):
            client = stack.enter_context(socket.create_connection(monitor.address))
            with contextlib.suppress(ConnectionError):
                client.sendall(b"interactive\n")
        # The thread of a closed connection may still be ending.
        wait_until(lambda: threading.active_count() <= before + bounded_server.MAX_CONNECTIONS)

        def is_ok() -> bool:
            with socket.create_connection(monitor.address) as client:
                return first_line(client, b"ruok\n") == b"imok\n"

        wait_until(is_ok)
    wait_until(lambda: threading.active_count() <= before)


def test_the_monitor_server_quotes_little(
    monitor: MonitorServer, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(monitor.address) as client:
        found = answer(client, b"x" * 4000 + b"\n")
    assert found.startswith(b"invalid command")
    assert len(found) < 300
    with socket.create_connection(monitor.address) as client:
        answer(client, b"'" + b"x" * 4000 + b"\n")
    assert all(len(record.getMessage()) < 300 for record in caplog.records)
