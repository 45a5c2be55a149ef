"""The states of primaries, secondaries and their connections, and what each of them means.

`MEANINGS` is the only table of states: commands, the status page, readiness, metrics, events
and notifications of systemd use it to show and evaluate states. docs/status.md describes when a
storage is in which state. This module must not depend on what causes a state.
"""

from dataclasses import dataclass
from typing import Literal, NoReturn, get_args

from zc.zrs.system.severity import Severity

Role = Literal["primary", "secondary"]

PrimaryState = Literal["listening", "stopped"]

SecondaryState = Literal[
    "connecting",
    "waiting",
    "catching up",
    "following",
    "silent",
    "quiet",
    "diverged",
    "stopped",
    "streaming",
]

PeerState = Literal["handshake", "catching up", "following", "streaming"]
"""The states of a secondary's connection, as its primary sees it."""

State = PrimaryState | SecondaryState | PeerState

EventKind = Literal["info", "error"]


@dataclass(frozen=True)
class Meaning:
    """How a state is shown and evaluated."""

    mark: str
    """A character whose shape distinguishes states without colours."""
    severity: Severity
    ready: bool | None
    """Whether a storage in this state can be used; None if that depends on its lag."""
    reason: str | None = None
    """Why a storage in this state is not ready; `role` is to be filled in."""
    shows_error: bool = True
    """Whether the last error of a connection explains this state."""
    event: EventKind = "info"
    """The kind of the event that a storage enters this state."""
    only_with_reactor: bool = False
    """Whether only storages with a Twisted reactor have this state."""


MEANINGS: dict[State, Meaning] = {
    "listening": Meaning("●", "good", ready=True),
    "connecting": Meaning("○", "warn", ready=None),
    "waiting": Meaning("○", "warn", ready=None),
    "handshake": Meaning("○", "warn", ready=None),
    "catching up": Meaning("◐", "warn", ready=None, shows_error=False),
    "following": Meaning("●", "good", ready=True),
    "silent": Meaning("◌", "warn", ready=None, shows_error=False),
    "quiet": Meaning("◌", "warn", ready=None, shows_error=False),
    "diverged": Meaning(
        "✕",
        "bad",
        ready=False,
        reason="diverged: the primary has a different history",
        event="error",
    ),
    "stopped": Meaning(
        "■", "bad", ready=False, reason="the {role} is stopped", shows_error=False
    ),
    "streaming": Meaning("●", "good", ready=None, only_with_reactor=True),
}

UNKNOWN = Meaning("○", "warn", ready=None)
"""The meaning of a state that only another version of zrs has."""

NO_ANSWER_MARK = "✕"
"""Shown in place of a state if a server does not answer."""

_BY_NAME: dict[str, Meaning] = {str(state): meant for state, meant in MEANINGS.items()}


def meaning(state: str) -> Meaning:
    """Return the meaning of a state that another process has reported."""
    return _BY_NAME.get(state, UNKNOWN)


def unhandled(state: NoReturn) -> NoReturn:
    """Make the type checker report states that the cases of a `match` do not cover."""
    raise AssertionError(f"the state {state!r} is not handled")


def _counted(states: tuple[State, ...]) -> tuple[State, ...]:
    return tuple(state for state in states if not MEANINGS[state].only_with_reactor)


STATES: dict[Role, tuple[State, ...]] = {
    "primary": _counted(get_args(PrimaryState)),
    "secondary": _counted(get_args(SecondaryState)),
}
"""The states of each role without a reactor. Metrics have a series for each of them."""
