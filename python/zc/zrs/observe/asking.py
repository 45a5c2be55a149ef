"""Asking status servers, from elsewhere: what ``zrs status`` and ``zrs top`` look at."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

MAX_BYTES = 8 << 20
"""How long an answer may be."""
MAX_AT_ONCE = 16

FINE, WARNING, CRITICAL = range(3)
"""The exit statuses of commands: all is well; not ready; diverged, stopped, or no answer."""

CRITICAL_STATES = frozenset({"diverged", "stopped"})

# A proxy of the environment has no business between us and a server of this network.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


@dataclass(frozen=True)
class Found:
    """What one status server said."""

    url: str
    status: dict[str, Any] | None
    """Its ``/status``, with ``ready`` and ``reasons`` by the limit that was asked for."""
    error: str | None
    """Why there is none."""

    @property
    def exit_status(self) -> int:
        """Return how bad it is."""
        if self.status is None or self.status["state"] in CRITICAL_STATES:
            return CRITICAL
        return FINE if self.status["ready"] else WARNING

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return {
            "url": self.url,
            "exit_status": self.exit_status,
            "error": self.error,
            "status": self.status,
        }


def base_url(text: str) -> str:
    """Return the address of a server from ``http://HOST:PORT/``, ``HOST:PORT`` or ``:PORT``.

    Raises `ValueError` with a text for the user.
    """
    url = text if "://" in text else f"http://{text}"
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"{text!r} is no http address")
    try:
        host, port = parts.hostname or "127.0.0.1", parts.port
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None
    if parts.path.strip("/") or parts.query:
        raise ValueError(f"{text!r}: give the address alone, as http://HOST:PORT/")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + ("/" if port is None else f":{port}/")


def ask(url: str, timeout: float, lag: str | None = None) -> Found:
    """Ask a server for its status; `lag` is the limit of being ready, as of ``/ready``."""
    try:
        status = _get(url, "status", timeout)
        if lag is not None:
            query = urllib.parse.urlencode({"lag": lag})
            status |= {
                key: value
                for key, value in _get(url, f"ready?{query}", timeout).items()
                if key in {"ready", "reasons"}
            }
        if not {"role", "state", "ready", "reasons"} <= set(status):
            return Found(url, None, "this is no status server of zrs")
    except (OSError, HTTPException, ValueError) as error:
        return Found(url, None, _reason(error))
    return Found(url, status, None)


def ask_all(urls: Sequence[str], timeout: float, lag: str | None = None) -> list[Found]:
    """Ask several at once; the answers are in the order of the servers."""
    with ThreadPoolExecutor(min(len(urls), MAX_AT_ONCE)) as threads:
        return list(threads.map(lambda url: ask(url, timeout, lag), urls))


def past_lags(url: str, timeout: float) -> list[float | None]:
    """Return the lags of the last minutes, the oldest first; none if they cannot be had."""
    try:
        return [sample[1] for sample in _get(url, "history", timeout)["samples"]]
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        return []


def _get(url: str, path: str, timeout: float) -> dict[str, Any]:
    try:
        with _open(url + path, timeout=timeout) as response:
            body = response.read(MAX_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 503:  # noqa: PLR2004 -- not ready: the body has the reason
                raise
            body = error.read(MAX_BYTES)
    answer = json.loads(body)
    if not isinstance(answer, dict):
        raise ValueError("this is no status server of zrs")  # noqa: TRY004 -- as bad JSON is
    return answer


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return "this is no status server of zrs"
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}: this is no status server of zrs"
    cause = getattr(error, "reason", None) or error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__
