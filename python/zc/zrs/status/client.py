"""Asking status servers, from elsewhere: what ``zrs status`` and ``zrs top`` look at.

However a server behaves, an answer takes no longer than it may, and nobody waits for one whose
time is up: each is asked in a thread of its own, which the process's end does not wait for.
"""

import http.client
import io
import socket
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
"""How long an answer may be."""

TOO_LATE = "timed out"

A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """What a status server said of one storage."""

    url: str
    status: ServedStatus | None
    """Its ``/status``, with ``ready`` and ``reasons`` by the limit that was asked for."""
    error: str | None
    """Why there is none."""
    storage: str | None = None
    """The storage's name, if the server has several or was asked for this one."""

    @property
    def severity(self) -> Severity:
        """Whether the storage is ready, is not, or is in a bad state or does not answer."""
        if self.status is None or meaning(self.status["state"]).severity == "bad":
            return "bad"
        return "good" if self.status["ready"] else "warn"

    @property
    def exit_status(self) -> int:
        """The exit status of a command that has found only this."""
        return EXIT_STATUSES[self.severity]

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``--json``."""
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
        raise ValueError(f"{text!r} is no http address")
    try:
        host, port = parts.hostname or "127.0.0.1", parts.port
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None
    if parts.path.strip("/") or parts.query:
        raise ValueError(f"{text!r}: give the address alone, as http://HOST:PORT/")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + ("/" if port is None else f":{port}/")


def ask(
    url: str, timeout: float, lag: str | None = None, storage: str | None = None
) -> list[Found]:
    """Ask a server for the status of each of its storages, or of one.

    `lag` is the limit of being ready, as of ``/ready``.
    """
    end = time.monotonic() + timeout
    try:
        statuses = validate.statuses(_get(url, _path("status", storage=storage), end), storage)
        if lag is not None:
            judged = _get(url, _path("ready", lag=lag, storage=storage), end)
            validate.put_readiness(judged, statuses)
        served = {name: validate.checked(status) for name, status in statuses.items()}
    except (OSError, http.client.HTTPException, ValueError) as error:
        return [Found(url, None, _reason(error), storage)]
    return [Found(url, status, None, name) for name, status in served.items()]


def ask_all(
    urls: Sequence[str], timeout: float, lag: str | None = None, storage: str | None = None
) -> list[Found]:
    """Ask all at once; the answers are in the order of the servers."""
    found = _each(
        lambda url: ask(url, timeout, lag, storage),
        urls,
        timeout,
        lambda url: [Found(url, None, TOO_LATE, storage)],
    )
    return [one for of_server in found for one in of_server]


def past_lags(url: str, timeout: float, storage: str | None = None) -> list[float | None]:
    """Return the lags of the last minutes, the oldest first; none if they cannot be had."""
    try:
        path = _path("history", storage=storage)
        return validate.past_lags(_get(url, path, time.monotonic() + timeout))
    except (OSError, http.client.HTTPException, ValueError):
        return []


def all_past_lags(found: Sequence[Found], timeout: float) -> list[list[float | None]]:
    """Return the lags of the last minutes of each storage."""
    return _each(
        lambda one: past_lags(one.url, timeout, one.storage), found, timeout, lambda _: []
    )


def _path(name: str, **options: str | None) -> str:
    given = {key: value for key, value in options.items() if value is not None}
    return f"{name}?{urllib.parse.urlencode(given)}" if given else name


def _each(
    ask_one: Callable[[A], T], asked: Sequence[A], timeout: float, late: Callable[[A], T]
) -> list[T]:
    """Return what each has to say, or what is to be said of one that comes too late."""
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
    heard = dict(found)
    return [heard[place] if place in heard else late(one) for place, one in enumerate(asked)]


class _InTime(io.RawIOBase):
    """Reads from a connection until its timeout is over, which is for all of the answer."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._raw = connection.makefile("rb", buffering=0)
        self._end = time.monotonic() + (connection.gettimeout() or 0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._connection.settimeout(_left(self._end))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_InTime(sock))


class _Connection(http.client.HTTPConnection):
    response_class = _Response


class _SecureConnection(http.client.HTTPSConnection):
    response_class = _Response


class _Handler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)


class _SecureHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_SecureConnection, req)


class _Refused(ValueError):  # noqa: N818 -- it reads as what it says
    """The server has answered that it does not answer; the argument is what it says."""


class _SameServer(urllib.request.HTTPRedirectHandler):
    """Follows redirects within a server, and never to another one or another scheme."""

    def redirect_request(  # noqa: PLR0913, PLR0917 -- the base class's
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        before, after = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if (before.scheme, before.netloc) != (after.scheme, after.netloc):
            where = f"{after.scheme}://{after.netloc}"[:200]
            raise _Refused(f"HTTP {code}: redirects to {where!a} are not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


# A proxy of the environment has no business between us and a server of this network.
_open = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), _Handler(), _SecureHandler(), _SameServer()
).open


def _left(end: float) -> float:
    if (left := end - time.monotonic()) <= 0:
        raise TimeoutError(TOO_LATE)
    return left


def _get(url: str, path: str, end: float) -> dict[str, Any]:
    try:
        with _open(url + path, timeout=_left(end)) as response:
            body = response.read(MAX_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            body = error.read(MAX_BYTES)
            if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
                try:
                    return validate.parse(body)  # not ready: the body has the reason
                except validate.NoStatus:
                    pass  # too busy to tell, or a proxy whose server is gone
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
        return "this is no name of a host"
    cause = getattr(error, "reason", None) or error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__
