"""Addresses to register instead of the one on which a server listens."""

from __future__ import annotations

import pytest
import ZConfig
import ZODB.config

from zc.zrs.zookeeper.register_as import address_to_register, parse_register_as


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("db.example.com", ("db.example.com", 8100)),
        ("db.example.com:9", ("db.example.com", 9)),
        ("[2001:db8::1]:65535", ("2001:db8::1", 65535)),
        ("[2001:db8::1]", ("2001:db8::1", 8100)),
    ],
)
def test_accepted_addresses(text: str, address: tuple[str, int]) -> None:
    assert address_to_register(parse_register_as(text), "", 8100) == address


WRONG = [
    (":8100", "no host"),
    ("0.0.0.0", "all addresses"),  # noqa: S104 -- refused
    ("0.0.0.0:1", "all addresses"),
    ("[::]:1", "all addresses"),
    ("*", "all addresses"),
    ("::1", "in brackets"),
    ("[x]:1", "not an IPv6 address"),
    ("[::1]x", "not between 1 and 65535"),
    ("h:0", "not between 1 and 65535"),
    ("h:", "not between 1 and 65535"),
    ("h:65536", "not between 1 and 65535"),
    ("h:" + "9" * 5000, "not between 1 and 65535"),
    ("a/b", "not HOST"),
]


@pytest.mark.parametrize(("text", "message"), [*WRONG, ("", "no host")])
def test_addresses_that_cannot_be_connected_to_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_register_as(text)


@pytest.mark.parametrize("section", ["primary", "zrs"])
@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_section_refuses_it(section: str, text: str, message: str) -> None:
    with pytest.raises(ZConfig.ConfigurationError, match=message) as raised:
        read(section, f"zookeeper h:1\nreplicate-to /p\nregister-as {text}")
    assert "register-as" in str(raised.value)


@pytest.mark.parametrize("section", ["primary", "zrs"])
def test_it_requires_zookeeper(section: str) -> None:
    with pytest.raises(ZConfig.ConfigurationError, match="register-as, which requires a path"):
        read(section, "replicate-to 127.0.0.1:0\nregister-as h:1")


def read(section: str, lines: str) -> object:
    return ZODB.config.storageFromString(
        f"%import zc.zrs\n<{section}>\n{lines}\nfilestorage-path x\n</{section}>"
    )
