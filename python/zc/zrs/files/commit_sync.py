"""The ways in which a native FileStorage makes a commit durable (docs/recovery.md)."""

from typing import Literal, TypeAlias

CommitSync: TypeAlias = Literal["ordered", "single"]
COMMIT_SYNCS: tuple[CommitSync, ...] = ("ordered", "single")
DEFAULT_COMMIT_SYNC: CommitSync = "ordered"
