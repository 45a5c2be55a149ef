"""Names of zc.zrs 3.1 for objects that have other names here."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import ZODB.blob

import zc.zrs.config
import zc.zrs.last
import zc.zrs.last_transaction
import zc.zrs.primary
import zc.zrs.zconfig

if TYPE_CHECKING:
    import pytest


def test_the_program_of_last_transactions(capsys: pytest.CaptureFixture[str]) -> None:
    assert zc.zrs.last.main is zc.zrs.last_transaction.main
    assert zc.zrs.last.main(["127.0.0.1:1"]) == 1
    assert "127.0.0.1:1: " in capsys.readouterr().err


def test_the_section() -> None:
    assert zc.zrs.zconfig.ZRS is zc.zrs.config.ZRSSection


def test_records_of_blobs() -> None:
    blob = pickle.dumps(ZODB.blob.Blob, 3) + pickle.dumps(None, 3)
    other = pickle.dumps(dict, 3) + pickle.dumps({"module": "ZODB.blob"}, 3)
    assert zc.zrs.primary.is_blob_record(blob)
    for record in other, b"", None:
        assert not zc.zrs.primary.is_blob_record(record)
