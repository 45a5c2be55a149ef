"""The HTTP server with the status of a primary or a secondary."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from prometheus_client.parser import text_string_to_metric_families

from replicas.opening import LOOPBACK
from replicas.processes import run
from replicas.transactions import commit
from replicas.waiting import wait_caught_up, wait_until
from streams.sockets import connect
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary
from zc.zrs.status import server as status_server
from zc.zrs.system import bounded_server

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

    from replicas.opening import Opener

TIMEOUT = 30


def ask(
    storage: Any, path: str, method: str = "GET", **headers: str
) -> tuple[int, str, Message]:
    """Return the status, body and headers of a response."""
    host, port = storage.status_address
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=TIMEOUT)) as http_:
        http_.request(method, path, headers=headers)
        response = http_.getresponse()
        return response.status, response.read().decode(), response.headers


def asked(storage: Any, path: str) -> dict[str, Any]:
    status, body, headers = ask(storage, path)
    assert headers["Content-Type"] == "application/json"
    assert status in {200, 503}
    answer: dict[str, Any] = json.loads(body)
    return answer


Pair: TypeAlias = tuple[Primary, Secondary]


def metrics(storage: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return a storage's metrics by name and labels."""
    status, body, _ = ask(storage, "/metrics")
    assert status == 200
    samples = [
        sample for family in text_string_to_metric_families(body) for sample in family.samples
    ]
    found = {(s.name, frozenset(s.labels.items())): s.value for s in samples}
    assert len(found) == len(samples)
    return found


def metric(storage: Any, name: str, **labels: str) -> float:
    return metrics(storage)[name, frozenset(labels.items())]


@pytest.fixture
def pair(opener: Opener) -> Pair:
    """Open a primary and a secondary that has caught up, both with a status server."""
    primary = opener.primary(status_address=("127.0.0.1", 0))
    secondary = opener.secondary(primary, status_address=("127.0.0.1", 0))
    commit(primary, {0: b"data"})
    wait_caught_up(primary, secondary)
    return primary, secondary


def test_it_is_off_by_default(opener: Opener) -> None:
    before = threading.active_count()
    assert opener.primary().status_address is None
    assert threading.active_count() == before


def test_live_and_ready(pair: Pair) -> None:
    primary, secondary = pair
    both: tuple[Primary | Secondary, ...] = pair
    for storage in both:
        assert storage.status_address is not None
        assert storage.status_address[0] == "127.0.0.1"
        assert asked(storage, "/live") == {"live": True}
    assert asked(primary, "/ready")["ready"]
    wait_until(lambda: ask(secondary, "/ready")[0] == 200)
    for lag in "0", "30", "30s", "1500ms", "5m", "1h", "2d":
        assert ask(secondary, f"/ready?lag={lag}")[0] == 200
    assert asked(secondary, "/ready?lag=5m") == {
        "ready": True,
        "reasons": [],
        "lag_seconds": 0,
        "limit_seconds": 300,
    }


@pytest.mark.parametrize(
    "query",
    [
        "lag=",
        "lag=x",
        "lag=-1",
        "lag=1w",
        "lag=nan",
        "lag=1e10",
        "lags=3",
        "lag=1&lag=2",
        "lag",
        "&",
    ],
)
def test_an_invalid_query(pair: Pair, query: str) -> None:
    for storage in pair:
        status, body, _ = ask(storage, f"/ready?{query}")
        assert (status, len(body.splitlines())) == (400, 1)


def test_a_secondary_that_never_caught_up(opener: Opener) -> None:
    with socket.create_server(LOOPBACK) as nobody:
        nowhere = nobody.getsockname()
    secondary = opener.secondary(nowhere, status_address=LOOPBACK)
    wait_until(lambda: secondary.status()["failed_attempts"])
    status, body, _ = ask(secondary, "/ready?lag=1d")
    assert status == 503
    (reason,) = json.loads(body)["reasons"]
    assert "not caught up since start" in reason
    assert "refused" in reason
    assert json.loads(body)["lag_seconds"] is None


def test_a_secondary_that_is_behind(pair: Pair) -> None:
    primary, secondary = pair
    wait_until(lambda: ask(secondary, "/ready")[0] == 200)
    primary.close()
    wait_until(lambda: ask(secondary, "/ready?lag=0.3s")[0] == 503)
    answer = asked(secondary, "/ready?lag=300ms")
    (reason,) = answer["reasons"]
    assert reason.startswith("behind by up to ")
    assert answer["lag_seconds"] > 0.3
    # The lag grows, but is within another limit.
    assert asked(secondary, "/status")["lag_seconds"] > answer["lag_seconds"]
    assert ask(secondary, "/ready?lag=1h")[0] == 200
    assert metric(secondary, "zrs_lag_seconds", role="secondary") > 0.3


def test_a_diverged_secondary(opener: Opener) -> None:
    for path in opener.copy, opener.path:
        with contextlib.closing(Primary(str(path), LOOPBACK)) as alone:
            commit(alone, {0: str(path).encode()})
    primary = opener.primary()
    commit(primary, {0: b"the last one must not be too high"})
    secondary = opener.secondary(primary, status_address=LOOPBACK)
    wait_until(lambda: secondary.status()["state"] == "diverged")
    assert ask(secondary, "/ready?lag=1d")[0] == 503
    assert "a different history" in asked(secondary, "/ready")["reasons"][0]
    assert metric(secondary, "zrs_diverged", role="secondary") == 1
    assert metric(secondary, "zrs_errors_total", role="secondary", kind="fork") >= 1


def test_status_is_that_of_the_storage(pair: Pair) -> None:
    primary, secondary = pair
    wait_until(lambda: secondary.status()["state"] == "following")
    for storage, role in (primary, "primary"), (secondary, "secondary"):
        answer = asked(storage, "/status")
        own = json.loads(json.dumps(storage.status()))
        changing = {key for key in own if key.endswith("_per_second")} | {"peers"}
        assert {key: answer[key] for key in own if key not in changing} == {
            key: value for key, value in own.items() if key not in changing
        }
        assert (answer["role"], answer["ready"]) == (role, True)
        assert answer["name"] == storage.getName()


def test_metrics(pair: Pair) -> None:
    primary, secondary = pair
    wait_until(lambda: secondary.status()["state"] == "following")
    wait_until(lambda: primary.status()["transactions"] == 1)
    committed = asked(primary, "/status")["tid_time"]
    assert committed == pytest.approx(time.time(), abs=TIMEOUT)
    assert (metric(primary, "zrs_is_primary"), metric(secondary, "zrs_is_primary")) == (1, 0)
    for storage, role in (primary, "primary"), (secondary, "secondary"):
        assert metric(storage, "zrs_transactions_total", role=role) == 1
        assert metric(storage, "zrs_bytes_total", role=role) == storage.status()["bytes"]
        assert metric(storage, "zrs_connected_peers", role=role) == 1
        last = metric(storage, "zrs_last_tid_timestamp_seconds", role=role)
        assert last == pytest.approx(committed, abs=0.001)
    assert metric(secondary, "zrs_lag_seconds", role="secondary") == 0
    assert metric(secondary, "zrs_lag_transactions", role="secondary") == 0
    assert metric(secondary, "zrs_reconnects_total", role="secondary") == 0
    for kind in "cannot connect", "network", "refused", "protocol", "tls", "fork", "storage":
        assert metric(secondary, "zrs_errors_total", role="secondary", kind=kind) == 0
    peers = [dict(labels).get("peer") for name, labels in metrics(primary)]
    (peer,) = {peer for peer in peers if peer}
    assert peer == "127.0.0.1"
    for name in "zrs_lag_seconds", "zrs_lag_transactions":
        assert metric(primary, name, role="primary", peer=peer) == 0


def test_metrics_of_a_cascade_over_a_unix_socket(opener: Opener) -> None:
    first = opener.primary()
    middle = Primary(str(opener.directory / "middle.fs"), str(opener.directory / "socket"))
    cascade = opener.closing(Secondary(middle, first.address, status_address=LOOPBACK))
    leaves = [opener.secondary(middle, str(opener.directory / f"leaf{n}.fs")) for n in range(2)]
    commit(first, {0: b"data"})
    for leaf in leaves:
        wait_caught_up(first, leaf)
    # Both leaves have the same name, and separate metrics nevertheless.
    lags = [key for key in metrics(cascade) if key[0] == "zrs_lag_transactions"]
    assert len(lags) == 1 + 2
    wait_until(lambda: metric(cascade, "zrs_transactions_total", role="primary") == 2)
    assert metric(cascade, "zrs_transactions_total", role="secondary") == 1
    assert metric(cascade, "zrs_is_primary") == 0
    answer = asked(cascade, "/status")
    assert len(answer["primary"]["peers"]) == 2


def test_metrics_in_the_format_that_is_asked_for(pair: Pair) -> None:
    _, body, headers = ask(
        pair[0], "/metrics", Accept="application/openmetrics-text;version=1.0.0"
    )
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


def test_metrics_without_prometheus_client(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "zc.zrs.status.prometheus", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    status, body, _ = ask(pair[0], "/metrics")
    assert status == 501
    assert "zrs[prometheus]" in body


def test_events_and_lag_are_recorded(pair: Pair) -> None:
    primary, secondary = pair
    with connect(primary.address, b"zrs9.9") as client:
        assert client.recv(1) == b""
    wait_until(lambda: any(e["kind"] == "error" for e in asked(primary, "/history")["events"]))
    history = asked(primary, "/history")
    texts = [event["text"] for event in history["events"]]
    assert any("zrs9.9" in text for text in texts)
    assert any(text.endswith(" connected") for text in texts)
    secondary.close()
    wait_until(
        lambda: any(
            event["text"].endswith(" disconnected")
            for event in asked(primary, "/history")["events"]
        )
    )
    moment, lag, rate, peers = asked(primary, "/history")["samples"][0]
    assert moment == pytest.approx(time.time(), abs=TIMEOUT)
    assert lag in {0, None}
    assert rate >= 0
    assert set(peers.values()) <= {0}


def test_the_page_is_complete(pair: Pair) -> None:
    status, body, headers = ask(pair[0], "/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "{{" not in body
    assert "http://" not in body.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in body


def test_head_and_unknown_paths(pair: Pair) -> None:
    for path in "/", "/live", "/status":
        status, body, headers = ask(pair[0], path, "HEAD")
        assert (status, body) == (200, "")
        assert int(headers["Content-Length"]) > 0
    for path in "/nothing", "/status/", "//evil.example/status", "/../status":
        assert ask(pair[0], path)[0] == 404
    for method in "POST", "PUT", "DELETE", "PATCH", "OPTIONS":
        status, _, headers = ask(pair[0], "/status", method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")


def dropped(client: socket.socket) -> bool:
    """Send another byte; return whether the server has closed the connection."""
    try:
        client.sendall(b"x")
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_slow_clients_are_few_and_dropped(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_server, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(bounded_server, "PLACE_SECONDS", 1000)
    monkeypatch.setattr(status_server._Server, "connection_seconds", 3)
    primary = opener.primary(status_address=LOOPBACK)
    address: Any = primary.status_address
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(3):
            clients.append(stack.enter_context(socket.create_connection(address)))
            clients[-1].sendall(b"GET /live HT")
        wait_until(lambda: threading.active_count() == before + 3)
        with contextlib.suppress(ConnectionError):
            assert ask(primary, "/live")[0] == 503
        assert threading.active_count() <= before + 3
        # They keep sending, but too slowly.
        for client in clients:
            client.settimeout(0.1)
            wait_until(lambda: dropped(client))  # noqa: B023
    wait_until(lambda: ask(primary, "/live")[0] == 200)


def test_a_request_that_is_not_http(pair: Pair) -> None:
    address: Any = pair[0].status_address
    for rubbish in b"\x00\xff\r\n\r\n", b"GET /" + b"x" * 100_000 + b"\r\n\r\n", b"\r\n":
        with socket.create_connection(address) as client:
            client.settimeout(TIMEOUT)
            with contextlib.suppress(ConnectionError):
                client.sendall(rubbish)
                client.recv(1)
    assert ask(pair[0], "/live")[0] == 200


def test_it_ends_with_the_storage(opener: Opener) -> None:
    before = set(threading.enumerate())
    primary = opener.primary(status_address=LOOPBACK)
    address: Any = primary.status_address
    with socket.create_connection(address):
        primary.close()
    names = {thread.name for thread in set(threading.enumerate()) - before}
    assert not [name for name in names if name.startswith("zrs status")]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    # The port is free again.
    opener.primary(status_address=address).close()


def test_an_address_in_use(opener: Opener) -> None:
    with socket.create_server(LOOPBACK) as other:
        taken = other.getsockname()
        for open_one in (
            lambda: opener.primary(status_address=taken),
            lambda: opener.secondary(LOOPBACK, status_address=taken),
        ):
            with pytest.raises(OSError, match=r"status-address.*in use"):
                open_one()
    # Everything was closed: the same files and addresses can be used.
    opener.secondary(opener.primary(status_address=taken))


@pytest.mark.parametrize(
    ("address", "error"),
    [("/socket", ValueError), (8080, TypeError), (("", 70000), ValueError)],
)
def test_an_invalid_address(opener: Opener, address: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        opener.primary(status_address=address)


def test_a_forked_child_does_not_affect_it(tmp_path: Path) -> None:
    output = run(
        """
        import http.client, socket, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        opener = Opener(directory)
        primary = opener.primary(status_address=LOOPBACK)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(write)
            primary.close()
            os.read(read, 1)  # until the parent has looked
            os._exit(0)
        os.close(read)
        http_ = http.client.HTTPConnection(*primary.status_address, timeout=30)
        http_.request("GET", "/live")
        say(http_.getresponse().status)
        primary.close()
        # The child, which lives, does not keep the port.
        socket.create_server(primary.status_address).close()
        os.close(write)
        say(os.waitpid(child, 0)[1])
        """,
        tmp_path,
    )
    assert output.split() == ["200", "0"]


def test_a_repeated_error_is_one_event(opener: Opener) -> None:
    with socket.create_server(LOOPBACK) as nobody:
        nowhere = nobody.getsockname()
    secondary = opener.secondary(nowhere, status_address=LOOPBACK, reconnect_delay=0.9)
    errors: list[dict[str, Any]] = []

    def repeated() -> bool:
        errors[:] = [e for e in asked(secondary, "/history")["events"] if e["kind"] == "error"]
        return bool(errors) and max(error["count"] for error in errors) > 1

    wait_until(repeated)
    assert all(f"{nowhere[0]}:{nowhere[1]}: " in error["text"] for error in errors)
