"""Trees of nodes: text format, links, import, export and deletion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hypothesis
import hypothesis.strategies as st
import kazoo.exceptions
import pytest

import zc.zk
from zc.zk import tree
from zc.zk.node_data import decode, encode
from zookeeper.servers import IS_FULL

if TYPE_CHECKING:
    from zc.zk import ZooKeeper

TREE = """\
/cms : z4m cms
  threads = 4
  /databases
    /main
      /providers
  /providers
/lb : ipvs
  /pools
    /cms
      address = '1.2.3.4:80'
      providers -> /cms/providers
      threads => /cms
"""


def test_an_imported_tree_is_exported_unchanged(zk: ZooKeeper) -> None:
    zk.import_tree(TREE)
    assert zk.export_tree() == TREE
    assert zk.export_tree("/lb/pools") == (
        "/pools\n  /cms\n    address = '1.2.3.4:80'\n"
        "    providers -> /cms/providers\n    threads => /cms\n"
    )
    assert zk.export_tree("/cms/databases", name="x").splitlines()[0] == "/x"


def test_print_tree(zk: ZooKeeper, capsys: pytest.CaptureFixture[str]) -> None:
    zk.import_tree("/a\n  /b\n    n = 1\n")
    zk.print_tree("/a")
    assert capsys.readouterr().out == "/a\n  /b\n    n = 1\n"


def test_importing_again_changes_only_what_differs(zk: ZooKeeper) -> None:
    zk.import_tree(TREE)
    assert zk.import_tree(TREE) == []
    changed = TREE.replace("threads = 4", "threads = 5").replace("  /providers\n/lb", "/lb")
    assert zk.import_tree(changed, dry_run=True) == ["would set /cms"]
    assert zk.get_properties("/cms")["threads"] == 4
    assert zk.import_tree(changed, trim=True) == ["set /cms", "delete /cms/providers"]
    assert zk.export_tree() == changed


def test_trimming_spares_nodes_next_to_the_tree(zk: ZooKeeper) -> None:
    """A shared ensemble has trees of other applications."""
    for path in "/kafka/brokers", "/databases/main/old", "/databases/other/old":
        zk.create_recursive(path)
    assert zk.import_tree("/databases\n  /main\n", trim=True, dry_run=True) == [
        "would delete /databases/main/old",
        "would delete /databases/other/old",
        "would delete /databases/other",
    ]
    assert zk.import_tree("/main\n", "/databases", trim=True) == ["delete /databases/main/old"]
    assert zk.get_children("/databases") == ["main", "other"]
    zk.import_tree("/databases\n  /main\n", trim=True)
    assert zk.get_children("/databases") == ["main"]
    assert "kafka" in zk.get_children("/")


def test_trimming_spares_servers(zk: ZooKeeper) -> None:
    zk.import_tree("/a\n  /b\n")
    zk.register_server("/a/b", ("1.2.3.4", 80))
    assert zk.import_tree("/a\n", trim=True) == ["/a/b/1.2.3.4:80 is ephemeral and stays"]
    assert zk.get_children("/a/b") == ["1.2.3.4:80"]
    assert zk.export_tree("/a") == "/a\n  /b\n"
    assert "/1.2.3.4:80" in zk.export_tree("/a", ephemeral=True)


def test_deleting_trees(zk: ZooKeeper) -> None:
    zk.import_tree("/a\n  /b\n    /c\n  /d\n")
    # Not with `register_server`, which would restore it.
    zk.client.create("/a/b/1.2.3.4:80", ephemeral=True)
    assert zk.delete_recursive("/a", dry_run=True)[-1] == "would delete /a/d"
    assert zk.delete_recursive("/a") == [
        "/a/b/1.2.3.4:80 is ephemeral and stays",
        "delete /a/b/c",
        "delete /a/d",
    ]
    assert zk.get_children("/a/b") == ["1.2.3.4:80"]
    assert zk.delete_recursive("/a", force=True)[-1] == "delete /a"
    assert zk.export_tree() == ""


def test_creating_recursively(zk: ZooKeeper) -> None:
    zk.create_recursive("/a/b/c", {"n": 1})
    assert zk.export_tree("/a") == "/a\n  /b\n    /c\n      n = 1\n"


def test_links_are_followed(zk: ZooKeeper) -> None:
    zk.import_tree(
        """
        /real
          /x
            /y
        /by
          absolute -> /real/x
          relative -> ../real
          /deep
            up -> ../relative/x
        /loop
          a -> b
          b -> ./a
        """
    )
    assert zk.resolve("/by/absolute/y") == "/real/x/y"
    assert zk.resolve("/by/relative/x/y") == "/real/x/y"
    assert zk.resolve("/by/deep/up/y") == "/real/x/y"
    assert zk.resolve("/real/x/../x/./y") == "/real/x/y"
    assert zk.get_children("/by/absolute") == ["y"]
    with pytest.raises(kazoo.exceptions.NoNodeError):
        zk.resolve("/by/absolute/z")
    with pytest.raises(zc.zk.LinkLoop):
        zk.resolve("/loop/a")


def test_making_links(zk: ZooKeeper) -> None:
    zk.import_tree("/a\n  /b\n/c\n")
    zk.ln("/a/b", "/c/")
    zk.ln("/a", "/c/d")
    assert zk.resolve("/c/b") == "/a/b"
    assert zk.resolve("/c/d/b") == "/a/b"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("/a\n  n = open('x')", 2),
        ("/a\n  n = __import__('os').system('true')", 2),
        ("/a\n  n = ", 2),
        ("/a\n  n", 2),
        ("/a\n/a", 2),
        ("/a\n  n = 1\n  n = 2", 3),
        ("/a\n  n = 1\n    m = 2", 3),
        ("/a b", 1),
        ("/..", 1),
        ("/a/b", 1),
        ("/", 1),
        ("/a\n  n = " + "[" * 2000, 2),
    ],
)
def test_invalid_trees(zk: ZooKeeper, text: str, number: int) -> None:
    with pytest.raises(zc.zk.TreeSyntaxError, match=f"line {number}: ") as caught:
        zk.import_tree(text)
    assert caught.value.number == number
    assert zk.export_tree() == ""


def test_a_node_with_malformed_data_is_shown(zk: ZooKeeper) -> None:
    zk.create_recursive("/a/b", b'{"n": ')
    zk.create_recursive("/a/c", b"\xff")
    zk.create_recursive("/a/d", b"plain")
    assert zk.export_tree("/a") == (
        "/a\n  /b\n    # malformed: b'{\"n\": '\n  /c\n    # malformed: b'\\xff'\n"
        "  /d\n    string_value = 'plain'\n"
    )
    with pytest.raises(zc.zk.MalformedProperties, match="/a/b"):
        zk.get_properties("/a/b")


NAMES = st.from_regex(r"[A-Za-z0-9._-]*[A-Za-z0-9_-]", fullmatch=True)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


# Threads of kazoo that reconnect use `random`, which Hypothesis takes for a use in a strategy.
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
@hypothesis.settings(
    max_examples=300 if IS_FULL else 25,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
@hypothesis.given(properties=st.dictionaries(NAMES, VALUES))
def test_properties_survive_data_and_text(properties: dict[str, Any]) -> None:
    assert decode(encode(properties), "/") == properties
    lines = tree.format_line("node", properties, 3)
    assert tree.parse("\n".join(lines)).children["node"].properties == properties
