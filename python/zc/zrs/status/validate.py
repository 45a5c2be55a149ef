"""Validation of the answers of status servers.

A server may be another version, another program, or malicious.
"""

import json
import math
from typing import Any, cast

from zc.zrs.status.schema import ServedStatus

NO_STATUS_SERVER = "this is not a zrs status server"
NO_STORAGE = "no storage "
"""The beginning of the answer to a request for an unknown storage."""
MAX_DEPTH = 20
"""Maximum nesting depth of objects and lists."""
MAX_NUMBER = 1e18

_NUMBERS = ("lag_seconds", "lag_transactions", "transactions_per_second", "bytes_per_second")


class NoStatus(ValueError):  # noqa: N818 -- the name is the message
    """The answer is not that of a status server; the argument is the reason."""


def parse(body: bytes) -> dict[str, Any]:
    """Return the object of an answer; raise `NoStatus` if it is not a JSON object."""
    try:
        answer = json.loads(body, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        raise NoStatus(NO_STATUS_SERVER) from None
    if not isinstance(answer, dict) or _is_deeper(answer, MAX_DEPTH):
        raise NoStatus(NO_STATUS_SERVER)
    return answer


def statuses(answer: dict[str, Any], asked: str | None) -> dict[str | None, dict[str, Any]]:
    """Return the statuses of a server's storages by their names.

    For a server with one storage, the name is the requested one, `asked`, or None. Raises
    `NoStatus` if the answer does not contain a status.
    """
    several = answer.get("storages")
    if several is None:
        return {asked: answer}
    if not isinstance(several, dict) or not all(
        isinstance(one, dict) for one in several.values()
    ):
        raise _wrong(answer, "storages")
    if not several:
        raise NoStatus("no storage is open")
    return dict(several)


def put_readiness(answer: dict[str, Any], statuses: dict[str | None, dict[str, Any]]) -> None:
    """Replace the readiness in statuses by that of an answer to ``/ready``."""
    several = answer.get("storages")
    for name, status in statuses.items():
        judged = several.get(name) if isinstance(several, dict) else answer
        if isinstance(judged, dict):
            status |= {key: judged[key] for key in ("ready", "reasons") if key in judged}


def checked(status: dict[str, Any]) -> ServedStatus:
    """Return the status; raise `NoStatus` if a value that is shown has a wrong type.

    Nothing else is checked. Another version may have other states, and lack keys.
    """
    if not {"role", "state", "ready", "reasons", "time"} <= set(status):
        raise NoStatus(NO_STATUS_SERVER)
    _text(status, "role")
    _text(status, "state")
    if not isinstance(status["ready"], bool):
        raise _wrong(status, "ready")
    reasons = status["reasons"]
    if not isinstance(reasons, list) or not all(isinstance(one, str) for one in reasons):
        raise _wrong(status, "reasons")
    _number(status, "time", may_miss=False)
    _number(status, "tid_time")
    _check_common(status)
    serving = status.get("primary")
    if serving is not None:
        if not isinstance(serving, dict):
            raise _wrong(status, "primary")
        _check_common(serving)
    return cast("ServedStatus", status)


def past_lags(history: dict[str, Any]) -> list[float | None]:
    """Return the lags of a history, the oldest first; raise `NoStatus` if it has none."""
    samples = history.get("samples")
    if not isinstance(samples, list):
        raise NoStatus(NO_STATUS_SERVER)
    lags: list[Any] = [
        sample[1] if isinstance(sample, list) and sample[1:] else "" for sample in samples
    ]
    if not all(lag is None or _is_number(lag) for lag in lags):
        raise NoStatus(NO_STATUS_SERVER)
    return lags


def _check_common(status: dict[str, Any]) -> None:
    for key in _NUMBERS:
        _number(status, key)
    peers = status.get("peers", [])
    if not isinstance(peers, list) or not all(isinstance(peer, dict) for peer in peers):
        raise _wrong(status, "peers")
    for peer in peers:
        _text(peer, "peer")
        _text(peer, "state")
        for key in _NUMBERS:
            _number(peer, key)


def _text(status: dict[str, Any], key: str) -> None:
    if not isinstance(status.get(key), str):
        raise _wrong(status, key)


def _number(status: dict[str, Any], key: str, *, may_miss: bool = True) -> None:
    value = status.get(key)
    if not (_is_number(value) or (value is None and may_miss)):
        raise _wrong(status, key)


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and -MAX_NUMBER <= value <= MAX_NUMBER


def _wrong(status: dict[str, Any], key: str) -> NoStatus:
    shown = json.dumps(status[key]) if key in status else "missing"
    return NoStatus(f"its status is invalid: {key} is {shown:.60}")


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not valid JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def _is_deeper(value: Any, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list):
        return False
    return depth == 0 or any(_is_deeper(one, depth - 1) for one in inner)
