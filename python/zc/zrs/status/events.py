"""What has happened between two statuses of the same storage."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zc.zrs.status.format import peer_addresses, short_peer, shown_addresses

MAX_TEXT = 500
"""Characters of an event's text: what peers send may be in it."""

BAD_STATES = frozenset({"diverged"})


@dataclass(frozen=True)
class Event:
    """Something that happened to a storage."""

    time: float
    """Seconds since 1970."""
    kind: str
    """``info`` or ``error``."""
    text: str
    """A sentence for people; it may quote what a peer has sent."""
    count: int = 1
    """How often it happened in a row; the time is the last one's."""


def changes(before: dict[str, Any] | None, now: dict[str, Any], moment: float) -> list[Event]:
    """Return what happened between the statuses; `before` is None for the first one."""
    found = list(_of_one(before, now, moment))
    if (primary := now.get("primary")) is not None:
        earlier = None if before is None else before.get("primary")
        found += _of_one(earlier, primary, moment)
    return found


def _of_one(
    before: dict[str, Any] | None, now: dict[str, Any], moment: float
) -> Iterator[Event]:
    where = shown_addresses(now["address"])
    if before is None:
        yield Event(moment, "info", f"started: {now['state']}, {where}")
        before = {"state": now["state"], "address": now["address"]}
    if now["address"] != before["address"]:
        yield Event(moment, "info", f"address changed to {where}")
    yield from _troubles(before, now)
    yield from _connections(before, now, moment)
    if now["state"] != before["state"]:
        kind = "error" if now["state"] in BAD_STATES else "info"
        yield Event(moment, kind, f"{before['state']} → {now['state']}")


def _troubles(before: dict[str, Any], now: dict[str, Any]) -> Iterator[Event]:
    last = now.get("last_error")
    more = now.get("errors", 0) - before.get("errors", 0)
    if last is None or more <= 0:
        return
    text = f"{short_peer(last['peer'])}: {last['message']}"
    if len(text) > MAX_TEXT:
        text = text[: MAX_TEXT - 1] + "…"
    others = f" (and {more - 1} more before it)" if more > 1 else ""
    yield Event(last["time"], "error", text + others)


def _connections(before: dict[str, Any], now: dict[str, Any], moment: float) -> Iterator[Event]:
    if "peers" in now:
        earlier = _states(before)
        for address, (name, state) in _states(now).items():
            _, was = earlier.pop(address, (name, None))
            if was is None:
                yield Event(moment, "info", f"{name} connected")
            elif was != state:
                yield Event(moment, "info", f"{name}: {was} → {state}")
        for name, _ in earlier.values():
            yield Event(moment, "info", f"{name} disconnected")
        return
    was, peer = before.get("peer"), now.get("peer")
    if was == peer:
        return
    if was is not None:
        yield Event(moment, "info", f"disconnected from {short_peer(was)}")
    if peer is not None:
        yield Event(moment, "info", f"connected to {short_peer(peer)}")


def _states(primary: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the names and states of a primary's connections by their addresses.

    A secondary gives its name a moment after it has connected.
    """
    peers = primary.get("peers", [])
    return {
        address: (
            f"{peer['label']} ({address})" if peer.get("name") else address,
            peer["state"],
        )
        for address, peer in zip(peer_addresses(peers), peers, strict=True)
    }
