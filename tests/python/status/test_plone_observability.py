"""The adapter for plone.observability, with that package's own server and formatters.

It runs in a separate process: the packages are in .peers/plone, outside the environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PEER = Path(__file__).parents[3] / ".peers" / "plone"

PROGRAM = """
import json, sys, threading, urllib.error, urllib.request
from pathlib import Path

import zope.component
from zope.configuration import xmlconfig
from plone.observability.health.server import (
    HealthRequestHandler, HealthServer, ThreadingHTTPServer,
)
from plone.observability.interfaces import IMetricFormatter, IMetricProvider, IReadinessCheck
from plone.observability.metrics.formatters import JSONFormatter, PrometheusFormatter
from prometheus_client.parser import text_string_to_metric_families

import zc.zrs
from replicas.opening import LOOPBACK
from replicas.transactions import commit
from replicas.waiting import wait_caught_up, wait_until
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary

context = xmlconfig.file("meta.zcml", zope.component)
xmlconfig.file("configure.zcml", zc.zrs, context=context)

health = HealthServer()  # its own start() knows no port that the system picks
health.readiness_cache_ttl = 0
httpd = ThreadingHTTPServer(LOOPBACK, HealthRequestHandler)
httpd.health_server = health
threading.Thread(target=httpd.serve_forever, daemon=True).start()

def ready():
    try:
        url = "http://127.0.0.1:%d/ready" % httpd.server_address[1]
        with urllib.request.urlopen(url) as answer:
            return answer.status, json.load(answer)["checks"]["zrs"]["message"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["checks"]["zrs"]["message"]

def metrics():
    # As plone.observability's view does it, which needs a Zope to be published in.
    found = []
    for name, provider in zope.component.getAdapters((object(),), IMetricProvider):
        found.extend(provider.collect())
    text = PrometheusFormatter().format(found)
    json.loads(JSONFormatter().format(found))
    return {
        (sample.name, sample.labels["storage"], sample.labels.get("role")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "peer" not in sample.labels and "kind" not in sample.labels
    }

directory = Path(sys.argv[1])
first, middle, leaf = (str(directory / name) for name in ("first.fs", 'mid"dle.fs', "leaf.fs"))
assert ready() == (200, "ready"), "nothing is open"
primary = Primary(first, LOOPBACK, close_deadline=1)
inner = Primary(middle, LOOPBACK, close_deadline=1)
cascade = Secondary(inner, primary.address, reconnect_delay=0.2)
commit(primary, {0: b"data"})
wait_caught_up(primary, cascade)
wait_until(lambda: ready() == (200, "ready"))
found = metrics()
middle = middle.replace('"', "'")
assert {storage for _, storage, _ in found} == {first, middle}, found
assert found["zrs_is_primary", first, None] == 1
assert found["zrs_is_primary", middle, None] == 0
assert found["zrs_transactions_total", first, "primary"] == 1
assert found["zrs_transactions_total", middle, "secondary"] == 1
assert found["zrs_lag_seconds", middle, "secondary"] == 0
follower = Secondary(leaf, LOOPBACK, reconnect_delay=0.2)
code, message = ready()
assert code == 503, message
assert message.startswith(leaf + ": not caught up since start"), message
for storage in follower, cascade, primary:
    storage.close()
assert ready() == (200, "ready")
assert metrics() == {}
httpd.shutdown()
print("done")
"""


def test_readiness_and_metrics(tmp_path: Path) -> None:
    if not PEER.exists():
        reason = "no plone.observability: run `make .peers/plone.made`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(PEER)])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


def test_the_package_is_optional() -> None:
    program = "import zc.zrs.primary, sys; assert 'plone.observability' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
