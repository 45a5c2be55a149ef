"""Configurations and rules in pages are read with their own parsers."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import yaml
import ZConfig
import ZEO.runzeo
import ZODB.config

import zc.zkzeo.runzeo

if TYPE_CHECKING:
    from pathlib import Path

_METRIC = re.compile(r"\bzrs_\w+")
_EXPRESSION_WORDS = re.compile(r"[\w\s.,:()\[\]{}=!<>~*/+\-\"']+")
_DURATION = re.compile(r"\d+[smhd]")

OPTIONS_ALONE = """\
%import zc.zrs
<zrs>
  replicate-to /replication
  filestorage-path Data.fs
  zookeeper localhost:2181
  {}
</zrs>
"""


def check(path: Path) -> bool:
    """Read a configuration with its schema; return whether it belongs to a ZEO server."""
    text = path.read_text()
    if "<zeo>" in text:
        class_ = zc.zkzeo.runzeo.Options if "<zookeeper>" in text else ZEO.runzeo.ZEOOptions
        options = class_()
        options.realize(["-C", str(path)])
        return True
    if text.lstrip().startswith("<zookeeper-options>"):
        text = OPTIONS_ALONE.format(text)
    schema = ZODB.config.getDbSchema() if "<zodb" in text else ZODB.config.getStorageSchema()
    ZConfig.loadConfigFile(schema, io.StringIO(text), url=path.as_uri())
    return False


def check_prometheus(text: str) -> None:
    """Check that a text is a configuration or a rule file of Prometheus.

    Only the structure is checked; expressions are not evaluated.
    """
    contents = yaml.safe_load(text)
    if "groups" not in contents:
        assert set(contents) == {"scrape_configs", "rule_files"}
        for job in contents["scrape_configs"]:
            assert set(job) == {"job_name", "static_configs"}
        return
    assert set(contents) == {"groups"}
    for group in contents["groups"]:
        assert set(group) <= {"name", "interval", "rules"}
        for rule in group["rules"]:
            assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
            assert re.fullmatch(r"[A-Za-z_]\w*", rule["alert"])
            assert _EXPRESSION_WORDS.fullmatch(rule["expr"]), rule["expr"]
            assert _DURATION.fullmatch(rule.get("for", "0s"))
            assert rule["annotations"]["summary"]


def metrics_in(text: str) -> set[str]:
    """Return the names of metrics in a text."""
    return set(_METRIC.findall(text))
