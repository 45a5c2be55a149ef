"""Children and properties that follow changes in ZooKeeper."""

from __future__ import annotations

import gc
import itertools
import logging
import threading
import time
import weakref
from typing import TYPE_CHECKING

import kazoo.exceptions
import pytest

import zc.zk
from replicas.waiting import wait_until
from zookeeper.servers import expire_session, plain_client

if TYPE_CHECKING:
    from zc.zk import ZooKeeper


def test_children_follow(zk: ZooKeeper) -> None:
    zk.import_tree("/a\n  /y\n  /x\n")
    children = zk.children("/a")
    assert list(children) == ["x", "y"]
    assert (len(children), children[0], children[-1]) == (2, "x", "y")
    zk.create_recursive("/a/z")
    wait_until(lambda: "z" in children)
    zk.delete_recursive("/a/x")
    wait_until(lambda: list(children) == ["y", "z"])


def test_functions_are_called_for_each_change_in_order(zk: ZooKeeper, hosts: str) -> None:
    zk.create_recursive("/a")
    told: list[list[str]] = []
    again: list[list[str]] = []
    children = zk.children("/a")

    @children
    def tell(children: zc.zk.Children) -> None:
        told.append(list(children))

    assert told == [[]]
    with plain_client(hosts) as client:
        for n in range(100):
            client.create(f"/a/{n:03}")
            if n == 50:
                children(lambda children: again.append(list(children)))
    wait_until(lambda: len(told[-1]) == 100)
    assert sorted(told) == told
    assert all(old != new for old, new in itertools.pairwise(told))
    wait_until(lambda: again[-1] == told[-1])
    assert again == told[-len(again) :]


def test_functions_that_fail_or_cancel(zk: ZooKeeper, caplog: pytest.LogCaptureFixture) -> None:
    zk.create_recursive("/a")
    told: list[str] = []
    children = zk.children("/a")

    def refuse(children: zc.zk.Children) -> None:  # noqa: ARG001
        raise zc.zk.CancelWatch

    def fail(children: zc.zk.Children) -> None:
        if children:
            raise ZeroDivisionError

    def cancel(children: zc.zk.Children) -> None:
        if children:
            raise zc.zk.CancelWatch
        told.append("cancel")

    for function in refuse, fail, cancel:
        children(function)
    with pytest.raises(ZeroDivisionError):
        children(lambda _: 1 // 0)
    children(lambda children: told.append(" ".join(children)))
    zk.create_recursive("/a/x")
    zk.create_recursive("/a/y")
    wait_until(lambda: told[-1] == "x y")
    assert set(told) <= {"cancel", "", "x", "x y"}
    assert told.count("cancel") == 1
    assert "ZeroDivisionError" in caplog.text


def test_functions_are_not_called_after_close(zk: ZooKeeper, hosts: str) -> None:
    zk.create_recursive("/a")
    for _ in range(10):
        session = zc.zk.ZooKeeper(hosts)
        closed = threading.Event()
        late: list[str] = []

        def tell(
            children: zc.zk.Children,
            closed: threading.Event = closed,
            late: list[str] = late,
        ) -> None:
            if closed.is_set():
                late.extend(children)

        session.children("/a")(tell)
        zk.create_recursive("/a/x")
        session.close()
        closed.set()
        zk.delete_recursive("/a/x")
        assert not late


def test_close_waits_for_the_running_function(zk: ZooKeeper, hosts: str) -> None:
    zk.create_recursive("/a")
    session = zc.zk.ZooKeeper(hosts)
    begun, ended = threading.Event(), threading.Event()

    @session.children("/a")
    def tell(children: zc.zk.Children) -> None:
        if children:
            begun.set()
            time.sleep(0.5)
            ended.set()

    zk.create_recursive("/a/x")
    assert begun.wait(60)
    session.close()
    assert ended.is_set()


def test_a_function_may_close_the_session(zk: ZooKeeper, hosts: str) -> None:
    zk.create_recursive("/a")
    session = zc.zk.ZooKeeper(hosts)
    closed = threading.Event()

    @session.children("/a")
    def close(children: zc.zk.Children) -> None:
        if children:
            session.close()
            closed.set()

    zk.create_recursive("/a/x")
    assert closed.wait(60)
    session = zc.zk.ZooKeeper(hosts)
    session.children("/a")(lambda _: session.close())
    assert session.closed


def test_a_function_may_use_the_session(zk: ZooKeeper) -> None:
    zk.create_recursive("/a")
    seen: list[int] = []

    @zk.children("/a")
    def read(children: zc.zk.Children) -> None:
        for child in children:
            properties = zk.properties(f"/a/{child}")
            properties(lambda properties: seen.append(properties["n"]))

    zk.create_recursive("/a/x", {"n": 1})
    wait_until(lambda: 1 in seen)
    zk.properties("/a/x", watch=False).update(n=2)
    wait_until(lambda: 2 in seen)


def test_unreferenced_objects_are_not_followed(zk: ZooKeeper, hosts: str) -> None:
    zk.import_tree("/a\n  n = 1\n")
    told: list[int] = []
    forgotten = [weakref.ref(zk.properties("/a")) for _ in range(10)]
    kept = zk.properties("/a")
    zk.properties("/a")(lambda now: told.append(now["n"]))
    cancelled = weakref.ref(_cancelling(zk))
    gc.collect()
    assert [reference() for reference in forgotten] == [None] * 10
    kept.update(n=2)
    wait_until(lambda: told == [1, 2] and kept["n"] == 2)
    wait_until(lambda: gc.collect() >= 0 and cancelled() is None)
    expire_session(zk.client, hosts)
    with plain_client(hosts) as client:
        client.set("/a", b'{"n": 3}')
    wait_until(lambda: told == [1, 2, 3] and kept["n"] == 3)
    assert len(zk._followers) == 2


def test_objects_that_are_dropped_leave_nothing_behind(zk: ZooKeeper) -> None:
    zk.import_tree("/a\n  n = 1\n  link -> /b\n/b\n")
    kept = zk.children("/a")
    for _ in range(100):
        zk.children("/a")
        zk.properties("/a")
        zk.children("/a/link")
    gc.collect()
    client = zk.client
    for watchers in client._data_watchers, client._child_watchers:
        assert sum(len(functions) for functions in watchers.values()) <= 2
    zk.properties("/b")
    assert len(zk._followers) <= 3
    zk.create_recursive("/a/x")
    wait_until(lambda: list(kept) == ["x"])


def _cancelling(zk: ZooKeeper) -> zc.zk.Properties:
    properties = zk.properties("/a")

    @properties
    def cancel(now: zc.zk.Properties) -> None:
        if now["n"] == 2:
            raise zc.zk.CancelWatch

    return properties


def test_a_path_that_is_moved_is_followed(zk: ZooKeeper, hosts: str) -> None:
    """The documented way: import the tree elsewhere, make a link, delete the old tree."""
    zk.import_tree("/cms\n  /databases\n    /main\n      n = 1\n")
    children, properties = (
        zk.children("/cms/databases/main"),
        zk.properties("/cms/databases/main"),
    )
    server = zc.zk.ZooKeeper(hosts)
    registration = server.register_server("/cms/databases/main", ("1.2.3.4", 5))
    wait_until(lambda: list(children) == ["1.2.3.4:5"])
    zk.import_tree("/databases\n  /cms\n    n = 2\n")
    zk.ln("/databases/cms", "/cms/databases/main")
    zk.delete_recursive("/cms/databases/main", force=True)
    wait_until(lambda: zk.get_children("/databases/cms") == ["1.2.3.4:5"])
    wait_until(lambda: list(children) == ["1.2.3.4:5"] and properties == {"n": 2})
    assert registration.registered.wait(60)

    # A changed link is followed too, and nothing remains at its old target.
    zk.import_tree("/other\n  n = 3\n")
    zk.ln("/other", "/cms/databases/main")
    wait_until(lambda: zk.get_children("/other") == ["1.2.3.4:5"])
    wait_until(lambda: list(children) == ["1.2.3.4:5"] and properties == {"n": 3})
    wait_until(lambda: zk.get_children("/databases/cms") == [])
    properties.update(n=4)
    wait_until(lambda: properties == {"n": 4})
    assert zk.get_properties("/other") == {"n": 4}
    server.close()
    wait_until(lambda: not children)
    assert zk.get_children("/other") == []


def test_a_node_that_goes_and_comes_back(zk: ZooKeeper) -> None:
    zk.import_tree("/a\n  n = 1\n  /x\n")
    children, properties = zk.children("/a"), zk.properties("/a")
    zk.delete_recursive("/a")
    wait_until(lambda: not children and not properties)
    zk.import_tree("/a\n  n = 2\n  /y\n")
    wait_until(lambda: list(children) == ["y"] and properties == {"n": 2})


def test_nodes_that_are_not_there(zk: ZooKeeper) -> None:
    for follow in zk.children, zk.properties:
        with pytest.raises(kazoo.exceptions.NoNodeError):
            follow("/a")


def test_properties_follow(zk: ZooKeeper) -> None:
    zk.import_tree("/a\n  n = 1\n  s = 'x'\n")
    properties = zk.properties("/a")
    frozen = zk.properties("/a", watch=False)
    assert dict(properties) == {"n": 1, "s": "x"}
    properties.update(n=2)
    wait_until(lambda: properties["n"] == 2)
    properties.set({"m": [1, None]})
    wait_until(lambda: properties == {"m": [1, None]})
    assert frozen == {"n": 1, "s": "x"}
    assert len(properties) == 1


def test_property_links_follow_what_they_lead_to(zk: ZooKeeper) -> None:
    zk.import_tree(
        """
        /a
          n => /b
          m => ../b other
          chain => .. top
        top => /b n
        /b
          n = 1
          other = 2
        """
    )
    properties = zk.properties("/a")
    assert properties == {"n": 1, "m": 2, "chain": 1}
    zk.properties("/b", watch=False).update(n=3, other=4)
    wait_until(lambda: properties == {"n": 3, "m": 4, "chain": 3})


def test_bad_property_links_are_named_once(
    zk: ZooKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    zk.import_tree("/a\n  good = 1\n  bad => /b\n  loop => /a loop\n/c\n")
    properties = zk.properties("/a")
    assert properties == {"good": 1}
    assert "bad => /b" in caplog.text
    assert "loop => /a loop" in caplog.text
    zk.import_tree("/b\n  bad = 2\n")
    wait_until(lambda: properties == {"good": 1, "bad": 2})


def test_malformed_properties_are_named_once(
    zk: ZooKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    zk.create_recursive("/a", {"n": 1})
    properties = zk.properties("/a")
    seen: list[dict[str, object]] = []
    properties(lambda properties: seen.append(dict(properties)))
    zk.client.set("/a", b'{"n": NaN}')
    wait_until(lambda: not properties)
    zk.client.set("/a", b'{"n": NaN}')
    zk.client.set("/a", b'{"n": 2}')
    wait_until(lambda: properties == {"n": 2})
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert [r.getMessage() for r in warnings] == ["malformed properties of /a: NaN is not JSON"]


def test_catching_up_after_a_lost_session(zk: ZooKeeper, hosts: str) -> None:
    zk.import_tree("/a\n  n = 1\n  /x\n")
    children, properties = zk.children("/a"), zk.properties("/a")
    lost = threading.Event()
    zk.client.add_listener(lambda state: lost.set() if state == "LOST" else None)
    for n in range(5):
        lost.clear()
        expire_session(zk.client, hosts)
        with plain_client(hosts) as client:
            client.create(f"/a/{n}")
            client.set("/a", b'{"n": %d}' % (n + 10))
        assert lost.wait(60)
        wait_until(lambda: properties == {"n": n + 10} and str(n) in children)  # noqa: B023
