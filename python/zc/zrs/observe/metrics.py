"""A storage's metrics for Prometheus; docs/status.md lists them.

Each look makes them anew from the status, in a registry of the storage's own, so that
several storages in a process have one each. Needs the extra ``prometheus``.
"""

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from zc.zrs.observe.measures import Measure, measures
from zc.zrs.observe.observer import Look


def exposition(look: Callable[[], Look], accept: str) -> tuple[bytes, str]:
    """Return a storage's metrics in the format that an ``Accept`` header asks for, and its type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StorageCollector(look))
    encode, content_type = choose_encoder(accept)
    encoded: bytes = encode(registry)
    return encoded, content_type


class StorageCollector(Collector):
    """A collector of prometheus-client, for a registry of the caller's choice.

    :param look: looks at the storage: an `Observer`'s `look`
    """

    def __init__(self, look: Callable[[], Look]) -> None:
        self._look = look

    def describe(self) -> list[Metric]:
        """Return nothing: what there is depends on the storage's state."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Look at the storage, and yield its metrics."""
        families: dict[str, Metric] = {}
        for measure in measures(self._look()):
            family = families.get(measure.name)
            if family is None:
                family = families[measure.name] = _family(measure)
            _add(family, measure)
        yield from families.values()


def _family(measure: Measure) -> Any:
    kind = CounterMetricFamily if measure.kind == "counter" else GaugeMetricFamily
    return kind(measure.name, measure.help)


def _add(family: Metric, measure: Measure) -> None:
    # Not `add_metric`: samples of the same family differ in whether they have a peer.
    family.add_sample(measure.name, measure.labels, measure.value)
