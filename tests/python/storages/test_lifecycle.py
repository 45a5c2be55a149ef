"""The common lifecycle of primaries and secondaries: opening, failing to open, closing."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from programs import free_port
from zc.zrs.filestorage import FileStorage
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary
from zc.zrs.storages.self_report import SelfReport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zc.zrs.status.schema import PrimaryStatus

    Opening = Callable[[Any], Primary | Secondary]


def open_primary(storage: Any) -> Primary:
    return Primary(storage, ("127.0.0.1", 0))


def open_secondary(storage: Any) -> Secondary:
    return Secondary(storage, ("127.0.0.1", 1))


@pytest.fixture(params=[open_primary, open_secondary])
def opening(request: pytest.FixtureRequest) -> Opening:
    found: Opening = request.param
    return found


def fail(*_: object, **__: object) -> NoReturn:
    raise RuntimeError("no more threads")


def test_a_storage_opened_from_a_path_is_closed_if_opening_fails(
    opening: Opening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(SelfReport, "start", fail)
        with pytest.raises(RuntimeError, match="no more threads"):
            opening(str(tmp_path / "Data.fs"))
    # It is not locked any more.
    opening(str(tmp_path / "Data.fs")).close()


def test_a_storage_that_was_passed_in_stays_open_if_opening_fails(
    opening: Opening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = FileStorage(str(tmp_path / "Data.fs"))
    with monkeypatch.context() as patched:
        patched.setattr(SelfReport, "start", fail)
        with pytest.raises(RuntimeError, match="no more threads"):
            opening(storage)
    assert storage.lastTransaction() == bytes(8)
    opening(storage).close()


def test_a_primary_stops_listening_if_opening_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    address = ("127.0.0.1", free_port())
    caplog.set_level("INFO", "zc.zrs.primary")
    monkeypatch.setattr(SelfReport, "start", fail)
    with pytest.raises(RuntimeError, match="no more threads"):
        Primary(str(tmp_path / "Data.fs"), address)
    with socket.create_server(address):
        pass
    logged = [record.getMessage().split()[0] for record in caplog.records]
    assert logged == ["Opening", "Closing"]


def test_closing_twice_closes_once(
    opening: Opening, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "zc.zrs")
    storage = opening(str(tmp_path / "Data.fs"))
    storage.close()
    storage.close()
    logged = [record.getMessage() for record in caplog.records]
    assert sum(line.startswith("Closing ") for line in logged) == 1


class CountingPrimary(Primary):
    """A subclass of an application."""

    closings = 0

    def __init__(self, path: str) -> None:
        super().__init__(path, ("127.0.0.1", 0))

    def status(self) -> PrimaryStatus:
        return {**super().status(), "missing_blobs": 7}

    def close(self) -> None:
        super().close()
        self.closings += 1


def test_subclasses_extend_the_status_and_closing(tmp_path: Path) -> None:
    primary = CountingPrimary(str(tmp_path / "Data.fs"))
    assert primary.status()["missing_blobs"] == 7
    assert primary.status()["state"] == "listening"
    primary.close()
    assert primary.closings == 1
    assert primary.status()["state"] == "stopped"
