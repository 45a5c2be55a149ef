"""Routing: from a request and the storages to the answer.

`answer` depends on its arguments only; this module must not import the server.
"""

import dataclasses
import json
import urllib.parse
from collections.abc import Callable, Mapping
from http import HTTPStatus

from zc.zrs.status import page
from zc.zrs.status.describing import all_ready, all_statuses, history, served_status
from zc.zrs.status.host_names import HostNames
from zc.zrs.status.observer import Observer, Snapshot
from zc.zrs.status.readiness import judge
from zc.zrs.status.storages import Storages
from zc.zrs.system.quantities import parse_duration

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
MAX_QUOTED = 200
"""Maximum number of characters of a request that are quoted."""


@dataclasses.dataclass(frozen=True)
class Request:
    """A GET or HEAD request."""

    target: str
    """The path, with the query."""
    hosts: list[str]
    """The values of all ``Host`` headers."""
    accept: str
    """The header ``Accept``, empty without one."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """The response."""

    body: bytes
    content_type: str
    status: HTTPStatus = HTTPStatus.OK


class BadQuery(Exception):  # noqa: N818 -- the name is the message
    """The request's path or query is invalid; the argument is the reason."""


class NoStorage(Exception):  # noqa: N818 -- the name is the message
    """The requested storage is not on this server."""

    def __init__(self, name: str, names: list[str]) -> None:
        there_are = ", ".join(names)[:MAX_QUOTED]
        super().__init__(
            f"no storage {name[:MAX_QUOTED]!r} at this address; available: {there_are}"
        )


Query = dict[str, str]


def answer(request: Request, storages: Storages, names: HostNames) -> Answer:
    """Return the response of a server with these storages and names."""
    try:
        return _misdirected(request, names) or _routed(request, storages)
    except BadQuery as error:
        return text_answer(HTTPStatus.BAD_REQUEST, str(error))
    except NoStorage as error:
        return text_answer(HTTPStatus.NOT_FOUND, str(error))


def _misdirected(request: Request, names: HostNames) -> Answer | None:
    """Refuse a request with a host name that the server does not accept."""
    hosts = request.hosts
    if len(hosts) <= 1 and names.include(hosts[0] if hosts else None):
        return None
    given = ", ".join(hosts)[:MAX_QUOTED]
    return text_answer(
        HTTPStatus.MISDIRECTED_REQUEST,
        f"Host {given!r} is not a name of this machine: if clients are to use it, add it"
        " to status-names",
    )


def _routed(request: Request, storages: Storages) -> Answer:
    try:
        parts = urllib.parse.urlsplit(request.target)
    except ValueError as error:
        raise BadQuery(f"{request.target[:MAX_QUOTED]!r} is not a path: {error}") from None
    route = ROUTES.get(parts.path)
    if route is None:
        paths = ", ".join(ROUTES)
        return text_answer(HTTPStatus.NOT_FOUND, f"available: {paths}")
    return route(storages, _query(parts.query), request.accept)


def _query(text: str) -> Query:
    try:
        pairs = urllib.parse.parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=10
        )
    except ValueError as error:
        raise BadQuery(f"{text[:MAX_QUOTED]!r} is not a query: {error}") from None
    if len(dict(pairs)) < len(pairs):
        raise BadQuery("an option is given twice")
    return dict(pairs)


def _no_options(query: Query, *known: str) -> None:
    if unknown := set(query) - set(known):
        names = ", ".join(sorted(unknown))[:MAX_QUOTED]
        raise BadQuery(f"unknown option {names}")


def _chosen(storages: Storages, query: Query) -> Observer | None:
    """Return the requested storage, or the only one; None for all of several."""
    name = query.get("storage")
    if name is not None:
        observer = storages.named(name)
        if observer is None:
            raise NoStorage(name, [one.storage for one in storages.all()])
        return observer
    if storages.are_many:
        return None
    return next(iter(storages.all()), None)


def _snapshots(storages: Storages) -> list[Snapshot]:
    return [observer.snapshot() for observer in storages.all()]


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
    found = (
        all_ready(_snapshots(storages), storages.opening, limit)
        if observer is None
        else judge(observer.snapshot(), limit).as_dict()
    )
    return _json(found, HTTPStatus.OK if found["ready"] else HTTPStatus.SERVICE_UNAVAILABLE)


def _status(storages: Storages, query: Query, _: str) -> Answer:
    _no_options(query, "storage")
    observer = _chosen(storages, query)
    if observer is None:
        return _json(all_statuses(_snapshots(storages), storages.opening))
    return _json(served_status(observer.snapshot()))


def _history(storages: Storages, query: Query, _: str) -> Answer:
    _no_options(query, "storage")
    observer = _chosen(storages, query)
    if observer is None:
        return _json({"status": all_statuses(_snapshots(storages), storages.opening)})
    return _json(history(observer))


def _metrics(storages: Storages, query: Query, accept: str) -> Answer:
    # Unknown options are ignored, because a scraper may add its own.
    observer = _chosen(storages, query)
    chosen = storages.all() if observer is None else [observer]
    try:
        from zc.zrs.status.prometheus import exposition  # noqa: PLC0415 -- an extra
    except ModuleNotFoundError as error:
        return text_answer(
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


def text_answer(status: HTTPStatus, text: str) -> Answer:
    """Return a line of text as an answer."""
    return Answer(f"{text}\n".encode(), TEXT, status)
