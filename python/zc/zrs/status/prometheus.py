"""Metrics for Prometheus; docs/reference/metrics.md lists them.

Each scrape computes them from the statuses, in a new registry, so that several servers in a
process do not interfere. Requires the extra ``prometheus``.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from zc.zrs.status.metrics import BUILD, Measure, measures
from zc.zrs.status.observer import Observer


def exposition(
    observers: Iterable[Observer], accept: str, *, labelled: bool
) -> tuple[bytes, str]:
    """Return metrics in the format for an ``Accept`` header, and the format's type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StoragesCollector(observers, labelled=labelled))
    encode, content_type = choose_encoder(accept)
    encoded: bytes = encode(registry)
    return encoded, content_type


class StoragesCollector(Collector):
    """A collector of prometheus-client, for a registry of the caller's choice.

    :param observers: the observers of the storages
    :param labelled: whether each of their metrics has the storage's name as the label ``storage``
    """

    def __init__(self, observers: Iterable[Observer], *, labelled: bool) -> None:
        self._observers = list(observers)
        self._labelled = labelled

    def describe(self) -> list[Metric]:
        """Return nothing: the metrics depend on the storages' states."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of all storages, grouped by name."""
        families: dict[str, Metric] = {}
        for measure, labels in self._measures():
            family = families.get(measure.name)
            if family is None:
                family = families[measure.name] = _family(measure)
            # Not `add_metric`: samples of the same family differ in whether they have a peer.
            family.add_sample(measure.name, labels | measure.labels, measure.value)
        yield from families.values()

    def _measures(self) -> Iterator[tuple[Measure, dict[str, str]]]:
        yield BUILD, {}
        for observer in self._observers:
            snapshot = observer.snapshot()
            labels = {"storage": snapshot.storage} if self._labelled else {}
            for measure in measures(snapshot):
                yield measure, labels


def _family(measure: Measure) -> Any:
    kind = CounterMetricFamily if measure.kind == "counter" else GaugeMetricFamily
    return kind(measure.name, measure.help)
