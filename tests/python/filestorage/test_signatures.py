"""Our FileStorage has the public attributes of ZODB's, with the same signatures."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest
import ZODB.FileStorage

from zc.zrs.filestorage import FileStorage

if TYPE_CHECKING:
    from pathlib import Path

REFERENCE = ZODB.FileStorage.FileStorage
NAMES = [*(name for name in dir(REFERENCE) if not name.startswith("_")), "__init__"]


def parameters(method: Any) -> list[inspect.Parameter]:
    """Return a method's parameters without `self`."""
    found = list(inspect.signature(method).parameters.values())
    return found[1:] if found and found[0].name == "self" else found


@pytest.mark.parametrize("name", NAMES)
def test_public_attributes_exist_and_are_called_alike(name: str) -> None:
    theirs, ours = (getattr(cls, name) for cls in (REFERENCE, FileStorage))
    assert callable(ours) == callable(theirs)
    if not callable(theirs):
        return
    expected = parameters(theirs)
    found = parameters(ours)
    # Annotations are ignored; our additional parameters are optional.
    for wanted, parameter in zip(expected, found, strict=False):
        assert (wanted.name, wanted.default) == (parameter.name, parameter.default)
        assert wanted.kind == parameter.kind
    assert len(found) >= len(expected)
    for extra in found[len(expected) :]:
        assert extra.default is not extra.empty


@pytest.mark.parametrize("blobs", [False, True])
def test_open_storage_has_the_attributes_of_zodbs(tmp_path: Path, blobs: bool) -> None:
    theirs, ours = (
        cls(str(tmp_path / name), blob_dir=str(tmp_path / f"{name}.blobs") if blobs else None)
        for name, cls in zip(["theirs", "ours"], [REFERENCE, FileStorage], strict=True)
    )
    try:
        expected = {name for name in dir(theirs) if not name.startswith("_")}
        assert expected - set(dir(ours)) == set()
        # Wrapping storages use the locks by these names.
        for name in "_lock_acquire", "_lock_release", "_commit_lock_acquire":
            assert callable(getattr(ours, name))
        assert ours._commit_lock_acquire()
        assert ours._commit_lock.locked()
        ours._commit_lock_release()
    finally:
        theirs.close()
        ours.close()


def test_packer_is_a_function_as_zodbs(tmp_path: Path) -> None:
    """It was None by default."""
    storage = FileStorage(str(tmp_path / "Data.fs"))
    assert storage.packer is REFERENCE.packer
    storage.close()
