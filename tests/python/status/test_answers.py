"""``zrs status`` and ``zrs top`` with servers that answer wrongly, slowly, or never."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from replicas.opening import LOOPBACK
from zc.zrs.commands.status_table import graph
from zc.zrs.status.client import Found, all_past_lags, ask
from zc.zrs.system.address import show_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ZRS = (sys.executable, "-m", "zc.zrs.command")
TIMEOUT = 60
GOOD: Any = {
    "role": "secondary", "state": "following", "ready": True, "reasons": [], "time": 1.0,
}  # fmt: skip


@contextlib.contextmanager
def answering(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """Answer each request in its own thread; yield the address."""
    listener = socket.create_server(LOOPBACK)

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            answer(connection)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=one, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield show_address(listener.getsockname())
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def saying(body: bytes, first: str = "200 OK") -> Callable[[socket.socket], object]:
    head = f"HTTP/1.0 {first}\r\nContent-Type: text/plain\r\n\r\n".encode()
    return lambda connection: connection.sendall(head + body)


def status(**changed: Any) -> bytes:
    return json.dumps(GOOD | changed).encode()


def zrs(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ZRS, *arguments], capture_output=True, text=True, check=False, timeout=TIMEOUT
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[" * 200_000, "not a zrs status server"),
        (b'{"a":' * 100_000, "not a zrs status server"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "not a zrs status server"),
        (status(lag_seconds=float("nan")), "not a zrs status server"),
        (status().replace(b"1.0", b"1e400"), "not a zrs status server"),
        (status().replace(b"1.0", b"9" * 5000), "not a zrs status server"),
        (status(state=[1]), "is invalid: state is [1]"),
        (status(role=None), "is invalid: role is null"),
        (status(ready="no"), 'is invalid: ready is "no"'),
        (status(reasons=None), "is invalid: reasons is null"),
        (status(reasons=[1]), "is invalid: reasons is [1]"),
        (status(time="now"), 'is invalid: time is "now"'),
        (status(tid_time="then"), 'is invalid: tid_time is "then"'),
        (status(lag_seconds="x"), 'is invalid: lag_seconds is "x"'),
        (status(lag_seconds=10**400), "is invalid: lag_seconds is 1000"),
        (status(role="primary", peers=None), "is invalid: peers is null"),
        (status(role="primary", peers=[{}]), "is invalid: peer is missing"),
        (status(primary=[]), "is invalid: primary is []"),
        (status(primary={"peers": [{"peer": "x"}]}), "is invalid: state is missing"),
    ],
)
def test_an_invalid_answer(body: bytes, reason: str) -> None:
    with answering(saying(body)) as address:
        (found,) = ask(f"http://{address}/", TIMEOUT)
    assert found.exit_status == 2
    assert reason in str(found.error)
    assert len(str(found.error)) < 120


def test_the_other_servers_are_still_shown() -> None:
    with answering(saying(b"[" * 200_000)) as bad, answering(saying(status())) as good:
        done = zrs("status", bad, good)
        assert (done.returncode, done.stderr) == (2, "")
        assert "this is not a zrs status server" in done.stdout
        assert "● following" in done.stdout
        found = json.loads(
            zrs("status", "--json", bad, good).stdout, parse_constant=pytest.fail
        )
    assert [one["exit_status"] for one in found] == [2, 0]


@pytest.mark.parametrize(
    "samples", [None, [1], [[1]], [[1, "x"]], [[1, 10**400]], [[1, 2], {"1": 2}]]
)
def test_an_invalid_history(samples: Any) -> None:
    with answering(saying(json.dumps({"samples": samples}).encode())) as address:
        assert all_past_lags([Found(f"http://{address}/", GOOD, None)], TIMEOUT) == [[]]


def test_a_negative_lag_is_drawn_as_zero() -> None:
    assert graph([-100.0, 1.0]) == "▁█"


def test_a_server_that_is_busy() -> None:
    with answering(saying(b"too many connections\nreally\n", "503 Busy")) as address:
        assert ask(f"http://{address}/", TIMEOUT)[0].error == "HTTP 503: too many connections"
    with answering(saying(b"", "503 Busy")) as address:
        assert ask(f"http://{address}/", TIMEOUT)[0].error == "HTTP 503: Busy"


def drip(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.0 200 OK\r\n")
    while not over.wait(0.05):
        connection.sendall(b"X: y\r\n")


def test_a_server_that_sends_slowly_is_not_waited_for() -> None:
    over = threading.Event()
    with answering(lambda connection: drip(connection, over)) as address:
        try:
            (found,) = ask(f"http://{address}/", 0.5)
            assert not over.is_set()
            assert found.error == "timed out"
            done = zrs("status", "--timeout", "0.5", address)
        finally:
            over.set()
    assert done.returncode == 2
    assert "timed out" in done.stdout


def test_histories_are_requested_in_parallel() -> None:
    both = threading.Barrier(2)
    body = json.dumps({"samples": [[1.0, 2.0, 0.0, {}]]}).encode()

    def answer(connection: socket.socket) -> None:
        both.wait(TIMEOUT)
        saying(body)(connection)

    with answering(answer) as one, answering(answer) as two:
        found = [Found(f"http://{address}/", GOOD, None) for address in (one, two)]
        assert all_past_lags(found, TIMEOUT) == [[2.0], [2.0]]


@pytest.mark.parametrize("command", ["status", "top"])
def test_an_interrupt_ends_it_while_a_server_hangs(command: str) -> None:
    asked, over = threading.Event(), threading.Event()

    def hang(_: socket.socket) -> None:
        asked.set()
        over.wait()

    with answering(hang) as address:
        try:
            with subprocess.Popen(
                [*ZRS, command, "--timeout", "3600", address],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as process:
                assert asked.wait(TIMEOUT)
                process.send_signal(signal.SIGINT)
                output = process.communicate(timeout=TIMEOUT)
        finally:
            over.set()
    assert process.returncode == 130
    assert output == ("", "")


def test_a_server_that_is_given_twice_has_one_graph() -> None:
    with answering(saying(status(lag_seconds=5.0))) as address:
        done = zrs("top", "--count", "3", "--interval", "0", address, address)
    assert done.stdout.count(f"lag of {address}") == 3
    assert done.stdout.splitlines()[-1] == "  ███"


@pytest.mark.parametrize(
    ("program", "arguments", "reason"),
    [
        (
            "command",
            ["status", "--timeout", "0", ":1"],
            "'0' is not a positive number of seconds",
        ),
        ("command", ["status", "--timeout", "1e10", ":1"], "'1e10' is more than 1000000000"),
        ("command", ["status", "--timeout", "1e6", ":1"], "'1e6' is more than a day"),
        ("command", ["top", "--interval", "1e10", ":1"], "'1e10' is more than 1000000000"),
        ("nagios", ["-w1", "-t", "0", ":1", ":1"], "'0' is not a positive number of seconds"),
        ("nagios", ["-w1", "-t", "1e10", ":1", ":1"], "'1e10' is more than 1000000000"),
        ("last_transaction", ["-t", "1e7", ":1"], "'1e7' is more than a day"),
        ("monitor", ["-i", "1e10", ":1", ":1"], "'1e10' is more than 1000000000"),
        ("monitor", ["-i", "0", ":1", ":1"], "'0' is not a positive number of seconds"),
        ("command", ["status", "--timeout", "soon", ":1"], "'soon' is not a number of seconds"),
    ],
)
def test_impossible_times(program: str, arguments: list[str], reason: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"zc.zrs.{program}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
