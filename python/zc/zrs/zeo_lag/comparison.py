"""The lag of a secondary's ZEO server behind its primary's, as findings for Nagios.

The texts are those of zrs-nagios in zc.zrs 3.1, which monitoring systems may parse.
"""

import dataclasses

from zc.zrs.system.address import parse_address
from zc.zrs.system.severity import CRITICAL, OK, WARNING
from zc.zrs.zeo_lag.probe import (
    DEFAULT_TIMEOUT,
    ProtocolError,
    committed,
    last_transactions,
)

_UNNAMED = "1"
"""The storage of a ZEO server with only one; findings omit its name."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """Maximum lags without a warning and without an error, in seconds; None for no limit."""

    warning: float | None = None
    error: float | None = None


@dataclasses.dataclass(frozen=True)
class Finding:
    """The finding about one storage, or about a server that cannot be queried."""

    state: int
    text: str
    metric: str | None = None


def compare_servers(
    primary: str, secondary: str, limits: Limits, timeout: float = DEFAULT_TIMEOUT
) -> list[Finding]:
    """Query and compare the servers at two addresses, which are given as text.

    The secondary is queried first. Commits in between then cannot make it later than the
    primary, so a secondary that is later has a different history.
    """
    answers: list[dict[str, bytes]] = []
    for role, addr in ("secondary", secondary), ("primary", primary):
        answer = _ask(role, addr, timeout)
        if isinstance(answer, Finding):
            return [answer]
        answers.append(answer)
    return compare(answers[1], answers[0], limits)


def compare(
    primary: dict[str, bytes], secondary: dict[str, bytes], limits: Limits
) -> list[Finding]:
    """Compare the last transactions of the storages of two servers, sorted by name."""
    if not primary and not secondary:
        return [Finding(WARNING, "No storages")]
    findings = []
    for name in sorted(primary.keys() | secondary.keys()):
        if name not in secondary:
            text = f"Storage {name!r} in primary, but not secondary"
            findings.append(Finding(CRITICAL, text))
        elif name not in primary:
            text = f"Storage {name!r} in secondary, but not primary"
            findings.append(Finding(CRITICAL, text))
        else:
            findings.append(_compare_storage(name, primary[name], secondary[name], limits))
    return findings


def worst(findings: list[Finding]) -> int:
    """Return the worst state of the findings."""
    return max(finding.state for finding in findings)


def _ask(role: str, addr: str, timeout: float) -> dict[str, bytes] | Finding:
    try:
        return last_transactions(parse_address(addr, paths_without_slash=True), timeout)
    except (OSError, ValueError) as error:
        return Finding(CRITICAL, f"Can't connect to {role} at {addr!r}: {error}")
    except ProtocolError as error:
        return Finding(CRITICAL, f"The {role} at {addr!r} is not a ZEO server: {error}")


def _compare_storage(name: str, primary: bytes, secondary: bytes, limits: Limits) -> Finding:
    label, of = ("", "") if name == _UNNAMED else (name, f" ({name!r})")
    # Ids order transactions even if their formatted times are equal.
    lag = committed(primary) - committed(secondary) if primary != secondary else 0.0
    metric = f"'lag{label}'={lag:.4f}seconds"
    if primary == secondary:
        return Finding(OK, f"Secondary{of} up to date.", metric)
    if primary < secondary:
        text = f"Primary{of} behind secondary by {-lag:.4f} seconds"
        return Finding(CRITICAL, text, metric)
    text = f"Secondary{of} behind primary by {lag:.4f} seconds"
    for state, limit in (CRITICAL, limits.error), (WARNING, limits.warning):
        if limit is not None and lag > limit:
            return Finding(state, f"{text} > {limit:.15g}", metric)
    return Finding(OK, text, metric)
