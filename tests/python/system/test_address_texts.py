"""Addresses as users write and read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zc.zrs.system.address import parse_address, parse_listening_address, show_address

if TYPE_CHECKING:
    from pathlib import Path

HOSTS = st.from_regex(r"[a-z0-9.-]{0,20}", fullmatch=True) | st.ip_addresses(v=6).map(str)
PORTS = st.integers(0, 65535)


@given(HOSTS, PORTS)
def test_an_address_is_what_is_shown(host: str, port: int) -> None:
    assert parse_address(show_address((host, port))) == (host, port)
    assert parse_listening_address(show_address((host, port))) == (host, port)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8100", ("", 8100)),
        (":8100", ("", 8100)),
        ("[::1]:8100", ("::1", 8100)),
        ("/run/zeo.sock", "/run/zeo.sock"),
        ("./h:1", "./h:1"),
    ],
)
def test_addresses(text: str, address: object) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is not HOST:PORT, PORT, or a path with a slash in it"),
        ("host", "'host' is not HOST:PORT, PORT"),
        ("host:", "'host:' is not HOST:PORT, PORT"),
        ("host:x", "'host:x' is not HOST:PORT, PORT"),
        ("[::1]", r"'\[::1\]' is not HOST:PORT, PORT"),
        ("[::1]8100", r"'\[::1\]8100' is not HOST:PORT, PORT"),
        ("[8100]", r"'\[8100\]' is not HOST:PORT, PORT"),
        ("::1:8100", "'::1:8100': write an IPv6 address in brackets"),
        ("h:65536", "'h:65536': port 65536 is not between 0 and 65535"),
        ("h:" + "9" * 5000, "'h:9{198}'[.]{3}: port '9{200}'[.]{3} is not between 0 and 65535"),
    ],
)
def test_other_text_is_not_an_address(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}"):
        parse_address(text)


def test_the_name_of_a_socket_in_this_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b").touch()
    assert parse_address("socket", paths_without_slash=True) == "socket"
    assert parse_address("a:b", paths_without_slash=True) == "a:b"
    assert parse_address("a:1", paths_without_slash=True) == ("a", 1)
    assert parse_address("8100", paths_without_slash=True) == ("", 8100)
    with pytest.raises(ValueError, match="'b:a' is not HOST:PORT"):
        parse_address("b:a", paths_without_slash=True)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1", ("127.0.0.1", 0)),
        ("127.0.0.1:", ("127.0.0.1", 0)),
        ("h:80", ("h", 80)),
        ("80", ("", 80)),
        (":80", ("", 80)),
        ("::1", ("::1", 0)),
        ("[::1]", ("::1", 0)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_addresses_to_listen_at(text: str, address: tuple[str, int]) -> None:
    assert parse_listening_address(text) == address


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is not HOST, HOST:PORT or PORT"),
        ("/run/monitor", "'/run/monitor' is the path of a UNIX socket"),
        ("h:x", "'h:x': port 'x' is not between 0 and 65535"),
        ("h:1:2", "'h:1:2': write an IPv6 address in brackets"),
    ],
)
def test_where_one_cannot_listen(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}"):
        parse_listening_address(text)
