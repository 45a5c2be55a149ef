"""Datatypes of options: each turns an option's text into its value.

Both ZConfig and the command line use them; a `ValueError` has the text for the user. This module
must not import ZConfig or ZODB.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Any, TypeVar

from zc.zrs.system.quantities import parse_count, parse_positive_duration

Value = TypeVar("Value")


def named(option: str, parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """Return a datatype whose `ValueError` names the option."""

    def parse_named(text: str) -> Value:
        try:
            return parse(text)
        except ValueError as error:
            raise ValueError(f"{option}: {error}") from None

    return parse_named


handshake_deadline = named("handshake-deadline", parse_positive_duration)
max_connections = named("max-connections", parse_count)


def node_name(text: str) -> str:
    """Return a node name; raise `ValueError` if it is invalid."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise ValueError(
            f"{text!r} is not a name of 1 to 64 letters, digits, dots, hyphens and underscores"
        )
    return text


def networks(text: str) -> list[str]:
    """Return the addresses and networks of a line; raise `ValueError` if one is invalid."""
    return [_network(word) for word in text.split()]


def _network(text: str) -> str:
    # The native code decides which connections a network can match, from the address as
    # written.
    ipaddress.ip_network(text, strict=False)
    address, slash, length = text.partition("/")
    if slash and not length.isdecimal():
        length = str(ipaddress.ip_network(text, strict=False).prefixlen)
    return address + slash + length


def password_function(text: str) -> Callable[[], Any]:
    """Return the function with this dotted name; raise `ValueError` if it cannot be imported."""
    module_name, _, name = text.rpartition(".")
    try:
        module = __import__(module_name, fromlist=[name])
        function: Callable[[], Any] = getattr(module, name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{text!r} is not the name of a function: {error}") from error
    return function
