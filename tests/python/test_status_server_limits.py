"""What the status server does about limits of the system, and about requests that make no sense."""

from __future__ import annotations

import contextlib
import logging
import resource
import socket
import socketserver
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from replicas.opening import LOOPBACK
from replicas.waiting import wait_until
from zc.zrs.observe import server as status_server
from zc.zrs.observe.observer import Observer
from zc.zrs.observe.server import StatusServer

if TYPE_CHECKING:
    from collections.abc import Iterator

STATUS: dict[str, Any] = {"state": "listening", "address": LOOPBACK, "tid": None, "peers": []}
TIMEOUT = 30


@pytest.fixture
def server() -> Iterator[StatusServer]:
    """Serve the status of a primary that there is not."""
    with contextlib.closing(StatusServer(LOOPBACK)) as server:
        server.start(Observer(lambda: dict(STATUS), "primary", "Data.fs"))
        yield server


def answer(client: socket.socket, request: bytes) -> bytes:
    client.settimeout(TIMEOUT)
    client.sendall(request)
    with client.makefile("rb") as lines:
        received: bytes = lines.read()
        return received


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    """Let this process open no file and no socket in the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_it_waits_while_there_is_no_room_for_a_connection(
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
    monkeypatch.setattr(status_server, "time", clock)
    monkeypatch.setattr(status_server, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(socketserver.TCPServer, "get_request", get_request)
    with socket.socket() as client:
        with no_more_files():
            client.connect(server.address)
            wait_until(lambda: tries.count("accept") > 3)
        assert answer(client, b"GET /live HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 ")
    assert tries == ["accept", "sleep"] * (len(tries) // 2) + ["accept"]


def test_a_path_that_means_nothing(
    server: StatusServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), socket.create_connection(server.address) as client:
        found = answer(client, b"GET http://[bad/live HTTP/1.0\r\n\r\n")
    assert found.startswith(b"HTTP/1.0 400 ")
    assert b"is no path" in found
    assert caplog.records == []
