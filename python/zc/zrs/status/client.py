"""A client of status servers, for ``zrs status`` and ``zrs top``.

Each server is queried in a daemon thread. Every request has an overall timeout, whatever the
server does. After it, the thread ends when its server has sent nothing for the same time, or
more than `MAX_BYTES`.
"""

import http.client
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

from zc.zrs.status import validate
from zc.zrs.status.schema import ServedStatus
from zc.zrs.status.states import meaning
from zc.zrs.system.severity import EXIT_STATUSES, Severity

MAX_BYTES = 8 << 20
"""Maximum length of an answer."""

TOO_LATE = "timed out"

A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """The answer of a status server about one storage."""

    url: str
    status: ServedStatus | None
    """Its ``/status``, with ``ready`` and ``reasons`` for the requested limit."""
    error: str | None
    """Why there is no status."""
    storage: str | None = None
    """The storage's name, if the server has several, or if this one was requested."""

    @property
    def severity(self) -> Severity:
        """OK if ready; critical in a bad state or without an answer; otherwise a warning."""
        if self.status is None or meaning(self.status["state"]).severity == "bad":
            return "bad"
        return "good" if self.status["ready"] else "warn"

    @property
    def exit_status(self) -> int:
        """The exit status of a command for this storage."""
        return EXIT_STATUSES[self.severity]

    def as_dict(self) -> dict[str, Any]:
        """Return the dictionary for ``--json``."""
        return {
            "url": self.url,
            "storage": self.storage,
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
        raise ValueError(f"{text!r} is not an HTTP address")
    try:
        host, port = parts.hostname or "127.0.0.1", parts.port
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None
    if parts.path.strip("/") or parts.query:
        raise ValueError(f"{text!r}: give only the address, for example http://HOST:PORT/")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + ("/" if port is None else f":{port}/")


def ask(
    url: str, timeout: float, lag: str | None = None, storage: str | None = None
) -> list[Found]:
    """Request the status of each storage of a server, or of one.

    `lag` is the maximum lag of a ready storage, as in ``/ready``.
    """
    return ask_all([url], timeout, lag, storage)


def ask_all(
    urls: Sequence[str], timeout: float, lag: str | None = None, storage: str | None = None
) -> list[Found]:
    """Query all servers concurrently; the answers are in the order of the servers."""
    found = _each(
        lambda url: _status(url, timeout, lag, storage),
        urls,
        timeout,
        lambda url: [Found(url, None, TOO_LATE, storage)],
    )
    return [one for of_server in found for one in of_server]


def all_past_lags(found: Sequence[Found], timeout: float) -> list[list[float | None]]:
    """Return the lags of the last minutes of each storage, the oldest first.

    The list is empty for a storage whose server does not answer.
    """
    return _each(
        lambda one: _past_lags(one.url, timeout, one.storage), found, timeout, lambda _: []
    )


def _status(url: str, timeout: float, lag: str | None, storage: str | None) -> list[Found]:
    try:
        path = _path("status", storage=storage)
        statuses = validate.statuses(_get(url, path, timeout), storage)
        if lag is not None:
            judged = _get(url, _path("ready", lag=lag, storage=storage), timeout)
            validate.put_readiness(judged, statuses)
        served = {name: validate.checked(status) for name, status in statuses.items()}
    except (OSError, http.client.HTTPException, ValueError) as error:
        return [Found(url, None, _reason(error), storage)]
    return [Found(url, status, None, name) for name, status in served.items()]


def _past_lags(url: str, timeout: float, storage: str | None) -> list[float | None]:
    try:
        return validate.past_lags(_get(url, _path("history", storage=storage), timeout))
    except (OSError, http.client.HTTPException, ValueError):
        return []


def _path(name: str, **options: str | None) -> str:
    given = {key: value for key, value in options.items() if value is not None}
    return f"{name}?{urllib.parse.urlencode(given)}" if given else name


def _each(
    ask_one: Callable[[A], T], asked: Sequence[A], timeout: float, late: Callable[[A], T]
) -> list[T]:
    """Return the results in order, that of `late` for a call that takes too long."""
    found: dict[int, T] = {}

    def run(place: int, one: A) -> None:
        found[place] = ask_one(one)

    end = time.monotonic() + timeout
    threads = [
        threading.Thread(target=run, args=each, daemon=True, name=f"asking {each[1]}")
        for each in enumerate(asked)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    in_time = dict(found)
    return [
        in_time[place] if place in in_time else late(one) for place, one in enumerate(asked)
    ]


class _Refused(ValueError):  # noqa: N818 -- the name is the message
    """The server has refused the request; the argument is its reason."""


class _SameServer(urllib.request.HTTPRedirectHandler):
    """Follows redirects within a server, but not to another server or scheme."""

    def redirect_request(  # noqa: PLR0913, PLR0917 -- the base class's
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        before, after = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if (before.scheme, before.netloc) != (after.scheme, after.netloc):
            where = f"{after.scheme}://{after.netloc}"[:200]
            raise _Refused(f"HTTP {code}: redirects to {where!a} are not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


# Proxies of the environment are not used: status servers are in the local network.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({}), _SameServer()).open


def _get(url: str, path: str, timeout: float) -> dict[str, Any]:
    try:
        with _open(url + path, timeout=timeout) as response:
            body = response.read(MAX_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            body = error.read(MAX_BYTES)
            if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
                try:
                    return validate.parse(body)  # not ready: the body has the reason
                except validate.NoStatus:
                    pass  # an overloaded server, or a proxy without its server
            raise _Refused(_refusal(error, body)) from None
    return validate.parse(body)


def _refusal(error: urllib.error.HTTPError, body: bytes) -> str:
    is_text = error.headers.get_content_type() == "text/plain"
    first = body[:200].decode(errors="replace").strip().partition("\n")[0] if is_text else ""
    if error.code == HTTPStatus.NOT_FOUND and not first.startswith(validate.NO_STORAGE):
        return f"HTTP {error.code}: {validate.NO_STATUS_SERVER}"
    return f"HTTP {error.code}: {first or error.reason}"


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "this is not a host name"
    cause = getattr(error, "reason", None) or error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__
