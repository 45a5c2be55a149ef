"""The answers of status servers as a table for a terminal."""

from collections.abc import Iterable, Sequence

from zc.zrs.commands.output import printable
from zc.zrs.status.client import Found
from zc.zrs.status.format import peer_names
from zc.zrs.status.schema import Traffic
from zc.zrs.status.states import NO_ANSWER_MARK, meaning
from zc.zrs.system.quantities import format_duration, format_size
from zc.zrs.system.severity import COLOURS, Severity

TITLES = ("STORAGE", "ROLE", "STATE", "LAG", "TXN/S", "BYTES/S", "LAST TRANSACTION")
SHORTEST_NAME = 10
"""Minimum width of names; if they would be shorter, roles are omitted."""
BLOCKS = "▁▂▃▄▅▆▇█"


def server_name(url: str) -> str:
    """Return the short name of a server; it includes a scheme other than ``http``."""
    return url.removeprefix("http://").rstrip("/")


def storage_name(found: Found) -> str:
    """Return the name of a storage: that of its server, and its own if known."""
    name = server_name(found.url)
    return name if found.storage is None else f"{name} {found.storage}"


def rows(found: Found) -> list[tuple[str, ...]]:
    """Return the lines of the table for a storage: its own, and its peers'."""
    name = storage_name(found)
    status = found.status
    if status is None:
        return [(name, "", f"{NO_ANSWER_MARK} no answer", "", "", "", "")]
    last = status.get("tid_time")
    lines: list[tuple[str, ...]] = [
        (
            name,
            status["role"],
            _state(status["state"]),
            format_duration(lag(found)),
            *_rates(status),
            "-" if last is None else f"{format_duration(max(0.0, status['time'] - last))} ago",
        )
    ]
    serving = status if status["role"] == "primary" else status.get("primary")
    peers = [] if serving is None else serving.get("peers", [])
    for peer_name, peer in zip(peer_names(peers), peers, strict=True):
        lacks = peer.get("lag_transactions")
        lines.append(
            (
                f"└ {peer_name}",
                "peer",
                _state(peer["state"]),
                format_duration(peer.get("lag_seconds")),
                *_rates(peer),
                "" if not lacks else f"lacks {lacks}",
            )
        )
    return lines


def lag(found: Found) -> float | None:
    """Return the lag of a secondary, or the longest of a primary's connections."""
    status = found.status
    if status is None:
        return None
    if status["role"] == "secondary":
        return status.get("lag_seconds")
    lags = [peer.get("lag_seconds") for peer in status.get("peers", [])]
    return max((lag for lag in lags if lag is not None), default=None)


def problems(found: Found) -> list[str]:
    """Return why a storage is not ready, as sentences."""
    if found.status is None:
        return [found.error or "no answer"]
    return list(map(str, found.status["reasons"]))


def table(lines: Sequence[tuple[str, ...]], width: int | None = None) -> list[str]:
    """Return a line of titles and the given lines, with aligned columns.

    If the width is insufficient, state and lag take precedence: names are shortened, then roles
    are omitted.
    """
    every = [TITLES, *(tuple(map(printable, line)) for line in lines)]
    if width is not None:
        every = _fitted(every, width)
    widths = _widths(every)
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in every]


def _fitted(lines: list[tuple[str, ...]], width: int) -> list[tuple[str, ...]]:
    """Return the lines with names shortened so that all columns up to the lag fit."""
    seen = TITLES.index("LAG") + 1
    room = width - sum(of_column + 2 for of_column in _widths(lines)[1:seen])
    role = TITLES.index("ROLE")
    if room < min(SHORTEST_NAME, _widths(lines)[0]):
        room += _widths(lines)[role] + 2
        lines = [(*line[:role], *line[role + 1 :]) for line in lines]
    return [(_shortened(line[0], max(room, 1)), *line[1:]) for line in lines]


def _widths(lines: Sequence[tuple[str, ...]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _shortened(name: str, width: int) -> str:
    """Shorten a name in the middle if it is too long: hosts and ports are at its ends."""
    if len(name) <= width:
        return name
    end = (width - 1) // 2
    return f"{name[: width - 1 - end]}…{name[len(name) - end :]}"


def colour(text: str, severity: Severity) -> str:
    """Return the text in the colour of a severity, for a terminal."""
    return f"\x1b[{COLOURS[severity]}m{text}\x1b[0m"


def graph(lags: Iterable[float | None]) -> str:
    """Return a bar graph of block characters, scaled to the longest lag; blank if unknown."""
    lags = list(lags)
    top = max([1.0, *(lag for lag in lags if lag is not None)])
    highest = len(BLOCKS) - 1
    return "".join(
        " " if lag is None else BLOCKS[min(highest, round(max(0.0, lag) / top * highest))]
        for lag in lags
    )


def _state(state: str) -> str:
    return f"{meaning(state).mark} {state}"


def _rates(status: Traffic) -> tuple[str, str]:
    rate = status.get("transactions_per_second")
    return "-" if rate is None else f"{rate:.1f}", format_size(status.get("bytes_per_second"))
