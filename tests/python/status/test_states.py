"""The table of states has every state of the types, and everything that shows states uses it."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import get_args

import pytest

from zc.zrs.status.page import PAGE
from zc.zrs.status.states import (
    MEANINGS,
    STATES,
    UNKNOWN,
    PeerState,
    PrimaryState,
    SecondaryState,
    meaning,
)
from zc.zrs.system.severity import COLOURS, EXIT_STATUSES, Severity

BINDING = Path(__file__).parents[3] / "src" / "status.rs"
OF_PRIMARIES, OF_SECONDARIES = set(get_args(PrimaryState)), set(get_args(SecondaryState))
OF_PEERS = set(get_args(PeerState))


def test_each_state_has_a_meaning() -> None:
    assert set(MEANINGS) == OF_PRIMARIES | OF_SECONDARIES | OF_PEERS


@pytest.mark.parametrize(
    ("name", "states"), [("SecondaryState", OF_SECONDARIES), ("PeerState", OF_PEERS)]
)
def test_the_types_have_the_states_of_the_native_module(name: str, states: set[str]) -> None:
    native = re.findall(rf'\b{name}::\w+ => "([^"]+)"', BINDING.read_text())
    assert set(native) == states - {"streaming"}


@pytest.mark.parametrize("table", [COLOURS, EXIT_STATUSES])
def test_each_severity_has_a_colour_and_an_exit_status(table: dict[Severity, int]) -> None:
    assert list(table) == list(get_args(Severity))
    assert len(set(table.values())) == len(table)


def test_states_of_reactors_are_not_in_metrics() -> None:
    assert set(STATES["primary"]) == OF_PRIMARIES
    assert set(STATES["secondary"]) == OF_SECONDARIES - {"streaming"}


def test_a_state_of_another_version_is_neither_good_nor_bad() -> None:
    assert meaning("dreaming") == UNKNOWN
    assert UNKNOWN.severity == "warn"


def test_the_page_has_all_states() -> None:
    found = re.search(r'<meta name="states" content="(.*)">', PAGE.decode())
    assert found is not None
    assert json.loads(html.unescape(found[1])) == {
        state: [meant.mark, meant.severity] for state, meant in MEANINGS.items()
    }


def test_states_that_are_never_ready_have_a_reason() -> None:
    for meant in MEANINGS.values():
        assert (meant.reason is None) == (meant.ready is not False)


def test_states_that_can_be_told_by_their_marks_have_one_severity() -> None:
    by_mark: dict[str, set[str]] = {}
    for state in MEANINGS.values():
        by_mark.setdefault(state.mark, set()).add(state.severity)
    assert all(len(severities) == 1 for severities in by_mark.values())
