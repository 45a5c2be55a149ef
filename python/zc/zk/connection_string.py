"""Checks of the options that locate nodes in ZooKeeper, and of session timeouts.

Connection strings, ``HOST:PORT,HOST:PORT/CHROOT``, paths, and session timeouts. Kazoo detects
invalid values only in its thread, or not at all.
"""

import re
from collections.abc import Callable
from typing import TypeVar

from kazoo.hosts import collect_hosts

MAX_QUOTED = 200
"""Maximum number of characters of invalid text that an error quotes."""

MIN_SESSION_TIMEOUT = 0.001
MAX_SESSION_TIMEOUT = (2**31 - 1) / 1000
"""Seconds; in the protocol, a timeout is a four-byte number of milliseconds."""

_REFUSED = re.compile("[\0-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\U0010ffff]")
"""The characters that ZooKeeper refuses in a path."""

Value = TypeVar("Value")


def check_place(
    connection_string: str, path: str, session_timeout: float | None = None
) -> None:
    """Check the arguments that define where servers are registered.

    Raises `ValueError`, with the name of the argument.
    """
    named("connection_string", check_connection_string)(connection_string)
    named("path", check_path)(path)
    check_session_timeout(session_timeout)


def named(option: str, check: Callable[[str], Value]) -> Callable[[str], Value]:
    """Return a check whose `ValueError` names the option."""

    def check_named(text: str) -> Value:
        try:
            return check(text)
        except ValueError as error:
            raise ValueError(f"{option}: {error}") from None

    return check_named


def check_connection_string(text: str) -> str:
    """Return the text; raise `ValueError`, which quotes it, if it is not a connection string."""
    _check_text(text)
    try:
        _, chroot = collect_hosts(text)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{quoted(text)} is not HOST:PORT,HOST:PORT/PATH: {error}") from None
    # Kazoo replaces port 0, and an empty port, by the default.
    servers = text.partition("/")[0].split(",")
    if any(re.search(r":0*$", server) for server in servers):
        raise ValueError(
            f"{quoted(text)} is not HOST:PORT,HOST:PORT/PATH: a port is 0 or empty"
        )
    if chroot and ("//" in chroot or _REFUSED.search(chroot)):
        raise ValueError(f"{quoted(text)}: {quoted(chroot)} is not a path in ZooKeeper")
    return text


def check_path(text: str) -> str:
    """Return the text; raise `ValueError`, which quotes it, if it is not an absolute path."""
    _check_text(text)
    if not text.startswith("/"):
        raise ValueError(f"{quoted(text)} is not an absolute path in ZooKeeper")
    return check_characters(text)


def check_characters(path: str) -> str:
    """Return the path; raise `ValueError` if it has characters that ZooKeeper refuses.

    Kazoo ends the session if a path cannot be encoded as UTF-8.
    """
    if found := _REFUSED.search(path):
        raise ValueError(
            f"{quoted(path)} is not a path in ZooKeeper, which refuses the character {found[0]!r}"
        )
    return path


def check_session_timeout(seconds: float | None) -> float | None:
    """Return a session's timeout; raise `ValueError` if the protocol cannot encode it.

    None stands for the default.
    """
    # A NaN fails each comparison.
    if seconds is not None and not (MIN_SESSION_TIMEOUT <= seconds <= MAX_SESSION_TIMEOUT):
        raise ValueError(
            f"session_timeout: {seconds!r} is not between {MIN_SESSION_TIMEOUT} and"
            f" {MAX_SESSION_TIMEOUT} seconds"
        )
    return seconds


def _check_text(value: object) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")  # noqa: TRY004 -- as for any other wrong one


def quoted(text: str) -> str:
    """Return invalid text, shortened for an error."""
    quote = repr(text[:MAX_QUOTED])
    return f"{quote}..." if len(text) > MAX_QUOTED else quote
