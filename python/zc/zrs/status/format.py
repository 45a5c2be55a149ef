"""Formatting of statuses for people and for labels: peers, tids, addresses."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from persistent.timestamp import TimeStamp

from zc.zrs.status.schema import PeerStatus
from zc.zrs.system.address import show_address

_IP_PEER = re.compile(r"IPv[46]Address\(\w+, '([^']*)', (\d{1,5})\)")
_CONNECT_TO = re.compile(r"\('([^']*)', (\d{1,5})\)")
_HOST_AND_PORT = re.compile(r"\[?([^/\]]*)\]?:\d{1,5}")
_UNIX_PEER = re.compile(r"UNIXAddress\('?([^')]*)'?\)")


def short_peer(peer: str) -> str:
    """Return ``host:port`` for a peer's name in the log, or the name without these."""
    if found := _IP_PEER.fullmatch(peer) or _CONNECT_TO.fullmatch(peer):
        return show_address((found[1], int(found[2])))
    if found := _UNIX_PEER.fullmatch(peer):
        return found[1] or "a UNIX socket"
    return peer


def peer_addresses(peers: Iterable[PeerStatus]) -> list[str]:
    """Return unique addresses of connections.

    All connections over a UNIX socket have the same path; the second one becomes ``path #2``.
    """
    return _numbered(short_peer(peer["peer"]) for peer in peers)


def peer_names(peers: Iterable[PeerStatus]) -> list[str]:
    """Return the names of connections for people: the secondary's name, or its address."""
    return _numbered(
        peer["label"] if peer.get("name") and "label" in peer else short_peer(peer["peer"])
        for peer in peers
    )


def peer_labels(peers: Iterable[PeerStatus]) -> list[str]:
    """Return unique labels of connections for metrics, without ports."""
    return _numbered(peer.get("label") or _host(short_peer(peer["peer"])) for peer in peers)


def _numbered(names: Iterable[str]) -> list[str]:
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return numbered


def _host(name: str) -> str:
    """Return the host of a short name; a path is returned unchanged."""
    found = _HOST_AND_PORT.fullmatch(name)
    return name if found is None else found[1]


def format_addresses(address: Any) -> str:
    """Return the address of a status as text; a secondary can have several."""
    if isinstance(address, list):
        return ", ".join(map(format_addresses, address)) or "no address yet"
    return show_address(address)


def seconds_of(tid: str | None) -> float | None:
    """Return the commit time of a tid, in seconds since 1970.

    None without a transaction: for ``None`` and for the tid zero.
    """
    if tid is None or not int(tid, 16):
        return None
    committed: float = TimeStamp(bytes.fromhex(tid.removeprefix("0x"))).timeTime()
    return committed
