"""One request to a status server: which path and which storage it is about."""

import dataclasses
import json
import logging
import urllib.parse
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from zc.zrs.status import page
from zc.zrs.status.describing import VERSION, all_described, all_ready, described, history
from zc.zrs.status.observer import Look, Observer
from zc.zrs.status.readiness import judge, parse_duration
from zc.zrs.status.storages import Storages

if TYPE_CHECKING:
    from zc.zrs.status.schema import ReadinessAnswer
    from zc.zrs.status.server import _Server

logger = logging.getLogger("zc.zrs.status")

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
MAX_QUOTED = 200
"""How many characters of a request are quoted."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is sent back."""

    body: bytes
    content_type: str
    status: HTTPStatus = HTTPStatus.OK


class BadQuery(Exception):  # noqa: N818 -- it reads as what it says
    """The request's path or query means nothing here; the argument says why."""


class NoStorage(Exception):  # noqa: N818 -- it reads as what it says
    """The request is about a storage that is not here."""

    def __init__(self, name: str, names: list[str]) -> None:
        there_are = ", ".join(names)[:MAX_QUOTED]
        super().__init__(f"no storage {name[:MAX_QUOTED]!r} here; there are: {there_are}")


Query = dict[str, str]


class Request(BaseHTTPRequestHandler):
    """Answers one request, and closes the connection."""

    server: "_Server"
    timeout = 10  # seconds for each read and write
    server_version = f"zrs/{VERSION}"

    def version_string(self) -> str:
        """Return what the ``Server`` header says."""
        return self.server_version

    def do_GET(self) -> None:
        """Answer, or say why not."""
        try:
            answer = self._misdirected() or self._answer()
        except BadQuery as error:
            answer = _text(HTTPStatus.BAD_REQUEST, str(error))
        except NoStorage as error:
            answer = _text(HTTPStatus.NOT_FOUND, str(error))
        except Exception:
            logger.exception("cannot answer %s", self.path[:MAX_QUOTED])
            answer = _text(HTTPStatus.INTERNAL_SERVER_ERROR, "see the log")
        self._send(answer)

    def do_HEAD(self) -> None:
        """Answer as to GET, without the body."""
        self.do_GET()

    def do_POST(self) -> None:
        """Refuse: nothing can be changed here."""
        self._send(_text(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD"))

    do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = do_POST

    def _misdirected(self) -> Answer | None:
        """Refuse a request that was sent to a name that is not this server's."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) <= 1 and self.server.names.include(hosts[0] if hosts else None):
            return None
        given = ", ".join(hosts)[:MAX_QUOTED]
        return _text(
            HTTPStatus.MISDIRECTED_REQUEST,
            f"Host {given!r} is not a name of this machine: if clients are to use it, add it"
            " to status-names",
        )

    def _answer(self) -> Answer:
        try:
            parts = urllib.parse.urlsplit(self.path)
        except ValueError as error:
            raise BadQuery(f"{self.path[:MAX_QUOTED]!r} is no path: {error}") from None
        route = ROUTES.get(parts.path)
        if route is None:
            paths = ", ".join(ROUTES)
            return _text(HTTPStatus.NOT_FOUND, f"there are: {paths}")
        return route(self.server.storages, _query(parts.query), self.headers.get("Accept", ""))

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Content-Security-Policy", page.CONTENT_SECURITY_POLICY)
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's
        """Log where a request is no news."""
        logger.debug(format, *args)


def _query(text: str) -> Query:
    try:
        pairs = urllib.parse.parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=10
        )
    except ValueError as error:
        raise BadQuery(f"{text[:MAX_QUOTED]!r} is no query: {error}") from None
    if len(dict(pairs)) < len(pairs):
        raise BadQuery("an option is given twice")
    return dict(pairs)


def _no_options(query: Query, *known: str) -> None:
    if unknown := set(query) - set(known):
        names = ", ".join(sorted(unknown))[:MAX_QUOTED]
        raise BadQuery(f"there is no option {names} here")


def _chosen(storages: Storages, query: Query) -> Observer | None:
    """Return the storage that is asked for, or the only one; None for all of several."""
    name = query.get("storage")
    if name is not None:
        observer = storages.named(name)
        if observer is None:
            raise NoStorage(name, [one.storage for one in storages.all()])
        return observer
    if storages.are_many:
        return None
    return next(iter(storages.all()), None)


def _looks(storages: Storages) -> list[Look]:
    return [observer.look() for observer in storages.all()]


def _live(_: Storages, query: Query, __: str) -> Answer:
    _no_options(query)
    return _json({"live": True})


def _ready(storages: Storages, query: Query, _: str) -> Answer:
    _no_options(query, "lag", "storage")
    try:
        limit = parse_duration(query["lag"]) if "lag" in query else None
    except ValueError as error:
        raise BadQuery(f"lag: {error}") from None
    observer = _chosen(storages, query)
    found: ReadinessAnswer
    if observer is None:
        found = all_ready(_looks(storages), storages.opening, limit)
    else:
        found = judge(observer.look(), limit).as_dict()
    return _json(found, HTTPStatus.OK if found["ready"] else HTTPStatus.SERVICE_UNAVAILABLE)


def _status(storages: Storages, query: Query, _: str) -> Answer:
    _no_options(query, "storage")
    observer = _chosen(storages, query)
    if observer is None:
        return _json(all_described(_looks(storages), storages.opening))
    return _json(described(observer.look()))


def _history(storages: Storages, query: Query, _: str) -> Answer:
    _no_options(query, "storage")
    observer = _chosen(storages, query)
    if observer is None:
        return _json({"status": all_described(_looks(storages), storages.opening)})
    return _json(history(observer))


def _metrics(storages: Storages, query: Query, accept: str) -> Answer:
    # A scraper may be configured with options of its own: they do no harm.
    observer = _chosen(storages, query)
    chosen = storages.all() if observer is None else [observer]
    try:
        from zc.zrs.status.prometheus import exposition  # noqa: PLC0415 -- an extra
    except ModuleNotFoundError as error:
        return _text(
            HTTPStatus.NOT_IMPLEMENTED,
            f"metrics need prometheus-client: pip install 'zrs[prometheus]' ({error})",
        )
    body, content_type = exposition(chosen, accept, labelled=storages.are_many)
    return Answer(body, content_type)


def _page(_: Storages, query: Query, __: str) -> Answer:
    del query
    return Answer(page.PAGE, "text/html; charset=utf-8")


ROUTES: dict[str, Callable[[Storages, Query, str], Answer]] = {
    "/": _page,
    "/live": _live,
    "/ready": _ready,
    "/status": _status,
    "/history": _history,
    "/metrics": _metrics,
}


def _json(value: Mapping[str, object], status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(json.dumps(value, indent=1).encode() + b"\n", JSON, status)


def _text(status: HTTPStatus, text: str) -> Answer:
    return Answer(f"{text}\n".encode(), TEXT, status)
