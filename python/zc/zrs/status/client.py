"""A client of status servers, for ``zrs status`` and ``zrs top``.

Each server is asked in a daemon thread, and the caller stops waiting for it when the timeout is
over, whatever the server does. A thread that is left behind ends when its server sends nothing
for the same time or more than `MAX_BYTES`.
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
    """Ask a server for the status of each of its storages, or of one.

    `lag` is the limit of being ready, as of ``/ready``.
    """
    return ask_all([url], timeout, lag, storage)


def ask_all(
    urls: Sequence[str], timeout: float, lag: str | None = None, storage: str | None = None
) -> list[Found]:
    """Ask all at once; the answers are in the order of the servers."""
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
    """Return the answer of each, or what `late` returns for one that takes too long."""
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
        return "this is not a host name"
    cause = getattr(error, "reason", None) or error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__
