"""The page of the status server, in a real browser."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from browser.chromium import Browser, browser
from replicas.opening import LOOPBACK
from replicas.transactions import commit
from replicas.waiting import wait_caught_up
from streams.sockets import connect
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary
from zc.zrs.status.observer import Observer
from zc.zrs.status.server import StatusServer
from zc.zrs.system.address import show_address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from replicas.opening import Opener
    from zc.zrs.status.states import Role

DESKTOP, PHONE = (1200, 900), (390, 844)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as page:
        yield page


def page_of(storage: Any) -> str:
    return f"http://{show_address(storage.status_address)}/"


@pytest.fixture
def cascade(opener: Opener) -> tuple[Primary, Secondary]:
    """Open a primary and a cascading secondary with a follower."""
    first = opener.primary(status_address=LOOPBACK)
    middle = Primary(str(opener.directory / "middle.fs"), LOOPBACK)
    secondary = opener.closing(
        Secondary(middle, first.address, reconnect_delay=0.2, status_address=LOOPBACK)
    )
    leaf = opener.secondary(middle, str(opener.directory / "leaf.fs"))
    for n in range(5):
        commit(first, {n: b"data" * 1000})
    wait_caught_up(first, leaf)
    return first, secondary


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("dark", [False, True])
def test_a_cascade(
    chromium: Browser, cascade: Any, tmp_path: Path, size: tuple[int, int], dark: bool
) -> None:
    _, secondary = cascade
    chromium.events.clear()
    chromium.size(*size, dark=dark)
    chromium.open(page_of(secondary))
    chromium.wait(lambda: "✓ ready" in chromium.text("#verdict"), "ready")
    # Each state has a word and a shape, not only a colour.
    topology = chromium.text("#topology")
    for shown in "middle.fs", "this cascading secondary", "● following", "connected":
        assert shown in topology
    chromium.wait(lambda: "connected to 127.0.0.1" in chromium.text("#events"), "events")
    assert "Transactions applied\n5\n" in chromium.text("#counters")
    chromium.wait(
        lambda: (
            chromium.evaluate("document.querySelectorAll('#graph path.trace[d^=M]').length")
            == 2
        ),
        "a line for either side",
    )
    chromium.wait(lambda: chromium.text("#lag").startswith("0 s now"), "no lag")
    # Nothing is wider than the screen, and texts are readable.
    assert chromium.evaluate("document.documentElement.scrollWidth") == size[0]
    assert (
        chromium.evaluate(
            "Math.min(...[...document.querySelectorAll('body *')]"
            ".map((one) => parseFloat(getComputedStyle(one).fontSize)))"
        )
        >= 12
    )
    # The page loads nothing from elsewhere, and the browser logs no errors.
    assert {url.removeprefix(page_of(secondary)) for url in chromium.requested()} <= {
        "",
        "history",
    } | {url for url in chromium.requested() if url.startswith("data:")}
    assert chromium.complaints() == []
    picture = tmp_path / "page.png"
    chromium.screenshot(picture)
    assert picture.stat().st_size > 10_000


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_several_storages(
    chromium: Browser, opener: Opener, tmp_path: Path, size: tuple[int, int]
) -> None:
    first = opener.primary(status_address=LOOPBACK, storage_name="Main <b>data</b>")
    opener.secondary(
        first, status_address=first.status_address, storage_name="copy", node_name="backup"
    )
    wait_caught_up(first, opener.secondary(first, str(opener.directory / "other.fs")))
    chromium.events.clear()
    chromium.size(*size)
    chromium.open(page_of(first))
    chromium.wait(lambda: "✓ ready" in chromium.text("#verdict"), "ready")
    assert chromium.text("h1") == "2 storages"
    listed = chromium.text("#storages")
    for shown in "Main <b>data</b>", "● listening", "primary · lag 0 s", "copy", "● following":
        assert shown in listed
    assert chromium.text("#topology") == ""
    assert chromium.evaluate("document.documentElement.scrollWidth") == size[0]
    chromium.screenshot(tmp_path / "all.png")
    # Each storage has the page of a single one.
    chromium.open(chromium.evaluate("document.querySelector('#storages a').href"))
    chromium.wait(lambda: "this primary" in chromium.text("#topology"), "the topology")
    assert chromium.text("h1") == f"Main <b>data</b>: {opener.path}"
    chromium.wait(lambda: "backup" in chromium.text("#topology"), "the name of the secondary")
    assert "?storage=Main%20%3Cb%3Edata%3C%2Fb%3E" in chromium.evaluate(
        "document.querySelector('#answers a').href"
    )
    chromium.screenshot(tmp_path / "one.png")
    chromium.open(chromium.evaluate("document.querySelector('#up').href"))
    chromium.wait(lambda: chromium.text("h1") == "2 storages", "the list again")
    assert chromium.complaints() == []


def test_lag_and_its_reason_are_shown(chromium: Browser, cascade: Any) -> None:
    first, secondary = cascade
    chromium.size(*DESKTOP)
    chromium.open(page_of(secondary))
    chromium.wait(lambda: "ready" in chromium.text("#verdict"), "ready")
    first.close()
    chromium.wait(lambda: "not connected" in chromium.text("#topology"), "the connection broke")
    chromium.wait(lambda: "up to" in chromium.text("#topology"), "the lag")
    chromium.wait(
        lambda: chromium.text("#lag") and not chromium.text("#lag").startswith("0 "), ""
    )
    chromium.wait(lambda: "disconnected from" in chromium.text("#events"), "the event")


def test_what_peers_send_is_text(chromium: Browser, opener: Opener) -> None:
    primary = opener.primary(status_address=LOOPBACK)
    with connect(primary.address, b"<b>x</b>") as client:
        assert client.recv(1) == b""
    chromium.size(*DESKTOP)
    chromium.open(page_of(primary))
    chromium.wait(lambda: "<b>x</b>" in chromium.text("#events"), "the error")
    assert chromium.evaluate("document.querySelectorAll('b').length") == 0


@pytest.mark.parametrize("role", ["primary", "secondary"])
def test_texts_of_a_status_are_not_parsed(chromium: Browser, role: Role) -> None:
    # Executed script changes the title, and parsed HTML adds the element.
    evil = "<img src=x onerror=\"document.title='x'\"><script>document.title='x'</script>"
    status: Any = {
        "state": evil, "address": evil, "tid": "0x" + "01" * 8, "started": 1.0,
        "peer": evil, "connected": True, "connections": 1, "transactions": evil,
        "errors": 1, "errors_by_kind": {evil: 1}, "connections_refused": {evil: 1},
        "last_error": {"time": 1.0, "peer": evil, "message": evil},
        "peers": [{"peer": evil, "state": evil, "lag_seconds": 1.0, "lag_transactions": 2}],
    }  # fmt: skip
    if role == "secondary":
        status["primary"] = dict(status)
    with contextlib.closing(StatusServer(LOOPBACK)) as server:
        server.start(Observer(lambda: status, role, evil))
        chromium.open(f"http://{show_address(server.address)}/")
        chromium.wait(lambda: "onerror" in chromium.text("#events"), "the error")
        for place in "#topology", "#counters", "#legend", "h1":
            assert "<script>" in chromium.text(place)
        assert chromium.evaluate("document.querySelectorAll('img').length") == 0
        assert chromium.evaluate("document.querySelectorAll('script').length") == 1
        assert chromium.evaluate("document.title") != "x"


def test_a_script_that_is_not_ours_would_not_run(chromium: Browser, cascade: Any) -> None:
    chromium.open(page_of(cascade[0]))
    chromium.wait(lambda: "ready" in chromium.text("#verdict"), "ready")
    chromium.evaluate(
        "document.body.append(Object.assign(document.createElement('script'),"
        " {textContent: 'document.title = \"x\"'}))"
    )
    assert chromium.evaluate("document.title") != "x"
    assert any("Content Security Policy" in said for said in chromium.complaints())


def test_a_stopped_server_is_reported(chromium: Browser, opener: Opener) -> None:
    primary = opener.primary(status_address=LOOPBACK)
    chromium.open(page_of(primary))
    chromium.wait(lambda: "ready" in chromium.text("#verdict"), "ready")
    primary.close()
    chromium.wait(lambda: "No answer" in chromium.text("#silent"), "the silence")
