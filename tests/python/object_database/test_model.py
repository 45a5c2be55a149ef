"""Random operations of instances and threads, compared with a model.

Two instances of one file represent two processes; each has two threads. Objects are numbers in
an attribute, and a dictionary. A state has the number of its transaction and the instance that
committed it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from dobbin.command import main
from dobbin.database import Database
from dobbin.exc import ReadConflictError, WriteConflictError
from dobbin.persistent import PersistentDict, checkout
from object_database.things import Thing
from object_database.workers import Worker

INSTANCES, THREADS = 2, 2
NAMES = ("x", "y", "tree")
actors = st.integers(0, INSTANCES * THREADS - 1)
instances = st.integers(0, INSTANCES - 1)
names = st.sampled_from(NAMES)
keys = st.sampled_from("abc")
numbers = st.integers(0, 9)
EXAMPLES = int(os.environ.get("ZRS_MODEL", "12"))

State = dict[str, Any]
"""The state of an object: ``v`` for a number, or items."""


@dataclass(frozen=True)
class Version:
    state: State
    number: int
    writer: int


@dataclass
class Own:
    """A thread's checkout of an object."""

    base: Version
    state: State
    touched: set[str] = field(default_factory=set)
    """The keys of the base that were set or deleted."""

    @property
    def written(self) -> bool:
        """Whether there are changes to commit, even if they set the same values."""
        return bool(self.touched or self.state.keys() - self.base.state.keys())

    def write(self, key: str, value: int) -> None:
        if key in self.base.state:
            self.touched.add(key)
        self.state[key] = value

    def delete(self, key: str) -> int | None:
        if key in self.state and key in self.base.state:
            self.touched.add(key)
        value: int | None = self.state.pop(key, None)
        return value


@dataclass
class Actor:
    instance: int
    worker: Worker
    own: dict[str, Own] = field(default_factory=dict)


def state_of(obj: Any) -> State:
    return dict(obj) if isinstance(obj, PersistentDict) else {"v": obj.v}


class Comparison(RuleBasedStateMachine):
    """Performs the same operations on databases and on the model."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = Path(tempfile.mkdtemp())
        self._path = str(self._directory / "objects")
        self._committed: dict[str, Version] = {}
        self._number = 0
        self._snapshots = 0
        self._databases: list[Database] = []
        self._views: list[dict[str, Version]] = []
        self._seen: list[int] = []  # the number of transactions an instance has seen
        self._actors: list[Actor] = []

    @initialize()
    def make(self) -> None:
        first = Database(self._path, sync="none")
        root = Thing(x=Thing(v=0), y=Thing(v=0), tree=PersistentDict(a=0))
        first.elect(root)
        transaction.commit()
        self._number = 1
        self._committed = {name: Version(state_of(getattr(root, name)), 1, 0) for name in NAMES}
        self._databases = [first, Database(self._path, sync="none")]
        self._views = [dict(self._committed) for _ in range(INSTANCES)]
        self._seen = [1] * INSTANCES
        for number in range(INSTANCES * THREADS):
            self._actors.append(Actor(number % INSTANCES, Worker()))
        for actor in self._actors:
            # From now on the instance follows the thread's transactions.
            self._use(actor)

    def _object(self, actor: Actor, name: str) -> Any:
        return getattr(self._databases[actor.instance].root, name)

    def _use(self, user: Actor) -> None:
        """Let an instance follow a thread's transactions."""
        user.worker.do(lambda: self._databases[user.instance].root)

    def _show(self, user: Actor, name: str) -> Any:
        return user.worker.do(lambda: state_of(self._object(user, name)))

    def _catch_up(self, instance: int) -> None:
        self._views[instance] = dict(self._committed)
        self._seen[instance] = self._number

    @rule(actor=actors)
    def begin(self, actor: int) -> None:
        user = self._actors[actor]
        user.worker.do(transaction.begin)
        user.own.clear()
        self._catch_up(user.instance)

    @rule(actor=actors)
    def abort(self, actor: int) -> None:
        user = self._actors[actor]
        user.worker.do(transaction.abort)
        user.own.clear()

    def _own(self, user: Actor, name: str) -> Own:
        version = self._views[user.instance][name]
        return user.own.setdefault(name, Own(version, dict(version.state)))

    @rule(actor=actors, name=names)
    def check_out(self, actor: int, name: str) -> None:
        user = self._actors[actor]
        user.worker.do(lambda: checkout(self._object(user, name)))
        self._own(user, name)

    @rule(actor=actors, name=names, key=keys, value=numbers)
    def write(self, actor: int, name: str, key: str, value: int) -> None:
        user = self._actors[actor]

        def work() -> None:
            obj = self._object(user, name)
            checkout(obj)
            if name == "tree":
                obj[key] = value
            else:
                obj.v = value

        user.worker.do(work)
        self._own(user, name).write("v" if name != "tree" else key, value)

    @rule(actor=actors, key=keys)
    def delete(self, actor: int, key: str) -> None:
        user = self._actors[actor]

        def work() -> Any:
            tree = self._object(user, "tree")
            checkout(tree)
            return tree.pop(key, None)

        assert user.worker.do(work) == self._own(user, "tree").delete(key)

    @rule(actor=actors)
    def commit(self, actor: int) -> None:
        user = self._actors[actor]
        expected: type[Exception] | None = None
        changes = {name: own for name, own in user.own.items() if own.written}
        if changes:
            self._catch_up(user.instance)
            outdated = [
                self._committed[name]
                for name, own in user.own.items()
                if self._committed[name].number != own.base.number
            ]
            foreign = any(version.writer != user.instance for version in outdated)
            if outdated:
                expected = ReadConflictError if foreign else WriteConflictError
        raised: type[BaseException] | None = None
        try:
            user.worker.do(transaction.commit)
        except (ReadConflictError, WriteConflictError) as error:
            raised = type(error)
            user.worker.do(transaction.abort)
        assert raised is expected
        self._number += bool(changes)
        if expected is None:
            for name, own in changes.items():
                self._committed[name] = Version(own.state, self._number, user.instance)
        if changes:
            self._catch_up(user.instance)
        user.own.clear()

    @rule(instance=instances)
    def reopen(self, instance: int) -> None:
        for user in self._actors:
            if user.instance == instance:
                user.worker.do(transaction.abort)
                user.own.clear()
        self._databases[instance].close()
        self._databases[instance] = Database(self._path, sync="none")
        self._catch_up(instance)
        for user in self._actors:
            if user.instance == instance:
                self._use(user)

    @rule(instance=instances)
    def compact(self, instance: int) -> None:
        self._databases[instance].compact()
        self._catch_up(instance)

    @rule(instance=instances)
    def snapshot(self, instance: int) -> None:
        self._snapshots += 1
        path = self._directory / f"snapshot {self._snapshots}"
        with Database(path, sync="none") as copy:
            self._databases[instance].snapshot(copy)
            assert copy.tx_count == 1
            for name, version in self._views[instance].items():
                assert state_of(getattr(copy.root, name)) == version.state

    @rule()
    def check(self) -> None:
        assert main(["check", self._path]) == 0

    @invariant()
    def everybody_sees_what_they_should(self) -> None:
        for user in self._actors:
            for name in NAMES:
                seen = self._show(user, name)
                own = user.own.get(name)
                expected = own.state if own else self._views[user.instance][name].state
                assert seen == expected, (user.instance, name)
        for database, known in zip(self._databases, self._seen, strict=False):
            assert database.tx_count == known

    def teardown(self) -> None:
        for user in self._actors:
            user.worker.end()
        for database in self._databases:
            database.close()
        transaction.abort()
        shutil.rmtree(self._directory)


def test_databases_agree_with_the_model() -> None:
    run_state_machine_as_test(
        Comparison,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
