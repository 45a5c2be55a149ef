"""Readiness and metrics for plone.observability; configure.zcml registers them.

They cover the primaries and secondaries that are open in the process.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from plone.observability.interfaces import IMetricProvider, IReadinessCheck
from plone.observability.metric import Metric
from zope.interface import implementer

from zc.zrs.status.metrics import BUILD, measures
from zc.zrs.status.observer import Snapshot
from zc.zrs.status.readiness import judge
from zc.zrs.status.registry import observers

NAME = "zrs"

# plone.observability does not escape the values of labels.
_PLAIN = str.maketrans({'"': "'", "\\": "/", "\n": " "})


def _snapshots() -> Iterator[Snapshot]:
    for observer in observers():
        # A storage may be closed at the same time.
        with contextlib.suppress(ReferenceError):
            yield observer.snapshot()


@implementer(IReadinessCheck)
class ReadinessCheck:
    """Ready if every storage is ready, as for ``/ready`` of the status server."""

    name = NAME

    def __call__(self) -> tuple[bool, str]:
        """Return whether all storages are ready, and the reasons if not."""
        reasons = [
            f"{snapshot.storage}: {reason}"
            for snapshot in _snapshots()
            for reason in judge(snapshot).reasons
        ]
        return not reasons, "; ".join(reasons) or "ready"


@implementer(IMetricProvider)
class MetricProvider:
    """The metrics of docs/status.md, each with the storage's name as the label ``storage``."""

    name = NAME
    scope = "instance"

    def __init__(self, context: Any) -> None:
        self.context = context

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of all storages, grouped by name."""
        found = [
            (measure, snapshot.storage)
            for snapshot in _snapshots()
            for measure in [BUILD, *measures(snapshot)]
        ]
        for measure, storage in sorted(found, key=lambda one: one[0].name):
            labels = {"storage": storage, **measure.labels}
            yield Metric(
                name=measure.name,
                value=measure.value,
                type=measure.kind,
                scope=self.scope,
                help=measure.help,
                labels={key: value.translate(_PLAIN) for key, value in labels.items()},
            )
