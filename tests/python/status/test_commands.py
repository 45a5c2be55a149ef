"""``zrs status`` and ``zrs top``: output and exit status."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from replicas.opening import LOOPBACK
from replicas.transactions import commit
from replicas.waiting import wait_caught_up, wait_until
from zc.zrs.commands.status_table import graph, rows
from zc.zrs.status.client import Found, base_url
from zc.zrs.status.observer import Observer
from zc.zrs.status.server import StatusServer
from zc.zrs.system.address import show_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replicas.opening import Opener
    from zc.zrs.primary import Primary
    from zc.zrs.secondary import Secondary

ZRS = (sys.executable, "-m", "zc.zrs.command")
TIMEOUT = 60


def zrs(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*ZRS, *arguments], capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    assert done.stderr == ""
    return done


def at(storage: Any) -> str:
    return show_address(storage.status_address)


@pytest.fixture
def pair(opener: Opener) -> tuple[Primary, Secondary]:
    primary = opener.primary(status_address=LOOPBACK)
    secondary = opener.secondary(primary, status_address=LOOPBACK)
    commit(primary, {0: b"data"})
    wait_caught_up(primary, secondary)
    wait_until(lambda: secondary.status()["state"] == "following")
    return primary, secondary


@pytest.fixture
def nowhere() -> str:
    with socket.create_server(LOOPBACK) as nobody:
        return show_address(nobody.getsockname())


def test_a_healthy_pair(pair: Any) -> None:
    done = zrs("status", *map(at, pair))
    titles, primary, peer, secondary = done.stdout.splitlines()
    assert done.returncode == 0
    assert titles.split()[:4] == ["STORAGE", "ROLE", "STATE", "LAG"]
    assert primary.split()[:4] == [at(pair[0]), "primary", "●", "listening"]
    assert secondary.split()[:6] == [at(pair[1]), "secondary", "●", "following", "0.0", "s"]
    assert "ago" in secondary
    assert peer.split()[:2] == ["└", "127.0.0.1:" + peer.split()[1].rpartition(":")[2]]
    assert "\x1b" not in done.stdout


def test_a_lagging_secondary_is_a_warning(pair: Any) -> None:
    primary, secondary = pair
    assert zrs("status", at(secondary)).returncode == 0
    primary.close()
    wait_until(lambda: secondary.status()["state"] == "waiting")
    done = zrs("status", "--lag", "1ms", at(secondary))
    assert done.returncode == 1
    assert "! behind by up to" in done.stdout
    assert zrs("status", "--lag", "1h", at(secondary)).returncode == 0


def test_a_server_that_does_not_answer_is_critical(pair: Any, nowhere: str) -> None:
    done = zrs("status", at(pair[0]), nowhere)
    assert done.returncode == 2
    assert "✕ no answer" in done.stdout
    assert "Connection refused" in done.stdout
    assert "● listening" in done.stdout


def test_json(pair: Any, nowhere: str) -> None:
    done = zrs("status", "--json", at(pair[1]), nowhere)
    assert done.returncode == 2
    secondary, missing = json.loads(done.stdout)
    assert secondary["exit_status"] == 0
    assert secondary["status"]["state"] == "following"
    assert (missing["status"], missing["exit_status"]) == (None, 2)
    assert missing["url"] == f"http://{nowhere}/"
    assert "refused" in missing["error"]


class OtherServer(BaseHTTPRequestHandler):
    answer = b"[]"

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"{}", b"\xff"])
def test_another_kind_of_server(answer: bytes) -> None:
    handler = type("Handler", (OtherServer,), {"answer": answer})
    with HTTPServer(LOOPBACK, handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = zrs("status", show_address(server.server_address))
        server.shutdown()
    assert done.returncode == 2
    assert "not a zrs status server" in done.stdout


def test_a_server_that_is_silent() -> None:
    with socket.create_server(LOOPBACK) as silent:
        done = zrs("status", "--timeout", "0.5", show_address(silent.getsockname()))
    assert done.returncode == 2
    assert "timed out" in done.stdout


@contextlib.contextmanager
def diverged(text: str) -> Iterator[str]:
    status: Any = {
        "state": "diverged", "address": LOOPBACK, "tid": None, "connected": False,
        "last_error": {"time": 1.0, "peer": text, "message": text},
    }  # fmt: skip
    with contextlib.closing(StatusServer(LOOPBACK)) as server:
        server.start(Observer(lambda: status, "secondary", text))
        yield show_address(server.address)


def test_a_diverged_secondary_is_critical_and_its_texts_are_harmless() -> None:
    with diverged("\x1b[2Jevil\r\n") as address:
        done = zrs("status", address)
    assert done.returncode == 2
    assert "✕ diverged" in done.stdout
    assert "evil" in done.stdout
    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 3


def test_top_without_a_terminal(pair: Any) -> None:
    addresses = list(map(at, pair))
    done = zrs("top", "--count", "2", "--interval", "0.1", *addresses)
    assert done.returncode == 0
    assert done.stdout.count("STORAGE") == 2
    assert f"lag of {addresses[1]}, at most" in done.stdout
    assert re.search(r"^  .*▁$", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout
    lines = zrs("top", "--json", "--count", "2", "--interval", "0", *addresses).stdout
    looks = [json.loads(line) for line in lines.splitlines()]
    assert [[one["exit_status"] for one in look] for look in looks] == [[0, 0], [0, 0]]


def test_top_on_a_terminal_ends_with_an_interrupt(pair: Any, nowhere: str) -> None:
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "20"}
    with subprocess.Popen(
        [*ZRS, "top", "--interval", "0.1", at(pair[1]), nowhere],
        stdout=terminal,
        stderr=terminal,
        env=environment,
    ) as process:
        os.close(terminal)
        shown = b""
        # Two refreshes, each of which begins at the top.
        while shown.count(b"\x1b[H") < 2:
            shown += os.read(controller, 4096)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(controller, 4096):
                shown += piece
        os.close(controller)
    # As of the last refresh, one of them does not answer.
    assert process.returncode == 2
    assert shown.startswith(b"\x1b[?1049h")
    assert shown.endswith(b"\x1b[?1049l")
    assert b"\x1b[31m" in shown
    assert "● following".encode() in shown


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["status", "ftp://x"], ["status", "x:y"], ["status", ":1/path"],
     ["status", "--lag", "x", ":1"], ["top", "--count", "0", ":1"]],
)  # fmt: skip
def test_wrong_arguments(arguments: list[str]) -> None:
    done = subprocess.run(
        [*ZRS, *arguments], capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: zrs")


def test_addresses_as_they_are_written() -> None:
    assert base_url(":8180") == "http://127.0.0.1:8180/"
    assert base_url("host:8180/") == "http://host:8180/"
    assert base_url("[::1]:8180") == "http://[::1]:8180/"
    assert base_url("https://host") == "https://host/"


@pytest.mark.parametrize(
    ("given", "shown"),
    [("https://host:8180/", "https://host:8180"), ("host:8180", "host:8180")],
)
def test_the_table_distinguishes_https_from_http(given: str, shown: str) -> None:
    assert rows(Found(base_url(given), None, "refused"))[0][0] == shown


@pytest.mark.parametrize(
    ("option", "rule"),
    [
        (
            "--listen",
            "all IPv4 addresses, and with [::] as the host on all IPv4 and IPv6 addresses",
        ),
        (
            "--zeo",
            "all IPv4 addresses, and with [::] as the host on all IPv4 and IPv6 addresses",
        ),
        ("--status", "only this machine can connect, and a warning is logged"),
    ],
)
def test_the_help_explains_an_address_without_a_host(option: str, rule: str) -> None:
    text = " ".join(zrs("primary", "--help").stdout.split())
    _, _, described = text.rpartition(f" {option} HOST:PORT ")
    assert rule in described[:200]


def test_a_graph() -> None:
    assert graph([0, None, 0.5, 1]) == "▁ ▅█"
    assert graph([0, 30, 60]) == "▁▅█"
    assert graph([]) == ""
