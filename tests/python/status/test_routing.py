"""Routing in a status server: the answer to a request for these storages."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from zc.zrs.status.host_names import HostNames
from zc.zrs.status.observer import Observer
from zc.zrs.status.requests import ROUTES, Answer, Request, answer
from zc.zrs.status.storages import Storages

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from replicas.opening import Opener

    Ask: TypeAlias = Callable[..., Answer]

NAMES = HostNames("127.0.0.1", ["status.example"])


@pytest.fixture
def asked(opener: Opener) -> Ask:
    primary = opener.primary()

    def asked(target: str, *names: str, hosts: tuple[str, ...] = ("status.example",)) -> Answer:
        storages = Storages()
        for name in names:
            storages.add(Observer(primary.status, "primary", primary.getName(), storage=name))
        return answer(Request(target, [*hosts], ""), storages, NAMES)

    return asked


def test_one_storage_is_answered_for_without_its_name(asked: Ask) -> None:
    found = asked("/status", "main")
    assert found.status == HTTPStatus.OK
    assert json.loads(found.body)["storage"] == "main"


def test_several_storages_are_answered_for_by_their_names(asked: Ask) -> None:
    assert list(json.loads(asked("/status", "one", "two").body)["storages"]) == ["one", "two"]
    assert json.loads(asked("/status?storage=two", "one", "two").body)["storage"] == "two"


@pytest.mark.parametrize("path", ROUTES)
def test_each_route_answers(asked: Ask, path: str) -> None:
    assert asked(path, "main").status == HTTPStatus.OK


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/elsewhere", HTTPStatus.NOT_FOUND),
        ("/status?storage=other", HTTPStatus.NOT_FOUND),
        ("/status?colour=red", HTTPStatus.BAD_REQUEST),
        ("/ready?lag=far", HTTPStatus.BAD_REQUEST),
        ("/ready?lag=1s&lag=2s", HTTPStatus.BAD_REQUEST),
        ("http://[bad/live", HTTPStatus.BAD_REQUEST),
    ],
)
def test_requests_that_mean_nothing(asked: Ask, target: str, status: HTTPStatus) -> None:
    assert asked(target, "main").status == status


@pytest.mark.parametrize("hosts", [("elsewhere.example",), ("status.example", "localhost")])
def test_requests_for_other_hosts_are_refused(asked: Ask, hosts: tuple[str, ...]) -> None:
    assert asked("/live", "main", hosts=hosts).status == HTTPStatus.MISDIRECTED_REQUEST
