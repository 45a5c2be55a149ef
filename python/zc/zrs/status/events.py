"""The events between two statuses of the same storage."""

from collections.abc import Iterator
from dataclasses import dataclass

from zc.zrs.status.format import format_addresses, peer_addresses, short_peer
from zc.zrs.status.schema import PrimaryStatus, SecondaryStatus, Status
from zc.zrs.status.states import EventKind, meaning

MAX_TEXT = 500
"""Maximum characters of an event's text, which may quote a peer."""


@dataclass(frozen=True)
class Event:
    """An event of a storage."""

    time: float
    """Seconds since 1970."""
    kind: EventKind
    text: str
    """A sentence for people; it may quote a peer."""
    count: int = 1
    """Number of repetitions in a row; the time is that of the last one."""


def of_secondary(
    before: SecondaryStatus | None, now: SecondaryStatus, moment: float
) -> Iterator[Event]:
    """Yield the events of a secondary since the status `before`, None at first."""
    yield from _beginning(before, now, moment)
    yield from _errors(before, now)
    was, peer = None if before is None else before.get("peer"), now.get("peer")
    if was != peer:
        if was is not None:
            yield Event(moment, "info", f"disconnected from {short_peer(was)}")
        if peer is not None:
            yield Event(moment, "info", f"connected to {short_peer(peer)}")
    yield from _state_change(before, now, moment)


def of_primary(
    before: PrimaryStatus | None, now: PrimaryStatus, moment: float
) -> Iterator[Event]:
    """Yield the events of a primary since the status `before`, None at first."""
    yield from _beginning(before, now, moment)
    yield from _errors(before, now)
    earlier = {} if before is None else _peer_states(before)
    for address, (name, state) in _peer_states(now).items():
        _, was = earlier.pop(address, (name, None))
        if was is None:
            yield Event(moment, "info", f"{name} connected")
        elif was != state:
            yield Event(moment, "info", f"{name}: {was} → {state}")
    for name, _ in earlier.values():
        yield Event(moment, "info", f"{name} disconnected")
    yield from _state_change(before, now, moment)


def _beginning(before: Status | None, now: Status, moment: float) -> Iterator[Event]:
    where = format_addresses(now["address"])
    if before is None:
        yield Event(moment, "info", f"started: {now['state']}, {where}")
    elif now["address"] != before["address"]:
        yield Event(moment, "info", f"address changed to {where}")


def _state_change(before: Status | None, now: Status, moment: float) -> Iterator[Event]:
    if before is not None and now["state"] != before["state"]:
        kind = meaning(now["state"]).event
        yield Event(moment, kind, f"{before['state']} → {now['state']}")


def _errors(before: Status | None, now: Status) -> Iterator[Event]:
    last = now.get("last_error")
    more = now.get("errors", 0) - (0 if before is None else before.get("errors", 0))
    if last is None or more <= 0:
        return
    text = f"{short_peer(last['peer'])}: {last['message']}"
    if len(text) > MAX_TEXT:
        text = text[: MAX_TEXT - 1] + "…"
    others = f" (and {more - 1} more before it)" if more > 1 else ""
    yield Event(last["time"], "error", text + others)


def _peer_states(primary: PrimaryStatus) -> dict[str, tuple[str, str]]:
    """Return the names and states of a primary's connections by their addresses.

    A secondary sends its name shortly after it has connected.
    """
    peers = primary["peers"]
    return {
        address: (
            f"{peer['label']} ({address})" if peer.get("name") else address,
            peer["state"],
        )
        for address, peer in zip(peer_addresses(peers), peers, strict=True)
    }
