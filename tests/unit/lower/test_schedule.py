"""Children of a build: in order, as memory allows, and what becomes of one that was killed."""

import os
import signal
from collections.abc import Callable

import pytest

from neuronc.lower.admission import Admission
from neuronc.lower.schedule import Schedule, Task

MANY = 10**12


class Children:
    """Starts a child per task that ends when its time is over; remembers who ran with whom."""

    def __init__(self, seconds: float = 0.3) -> None:
        self.seconds, self.begun = seconds, list[str]()
        self.killed_once: set[str] = set()
        self.events: list[dict[str, object]] = []

    def start(self, name: str) -> int:
        self.begun.append(name)
        is_killed = name in self.killed_once and self.begun.count(name) == 1
        script = "sleep 0.1; kill -9 $$" if is_killed else f"sleep {self.seconds}"
        return os.posix_spawn("/bin/sh", ["sh", "-c", script], {})

    def run(
        self,
        *names: str,
        left: Callable[[], int] = lambda: MANY,
        num_parallel: int = 2,
        known_bytes: int | None = 1,
    ) -> list[tuple[str, object]]:
        Schedule(
            [Task(name=name, known_bytes=known_bytes) for name in names],
            start=self.start,
            admission=Admission(num_parallel=num_parallel, available_bytes=left),
            tell=self.events.append,
            own_bytes=lambda _: 5,
        ).run()
        return [(str(e["folder"]), e["exit"]) for e in self.events if "folder" in e]

    @property
    def most_at_once(self) -> int:
        told = [event.get("running") for event in self.events]
        return max(len(running) for running in told if isinstance(running, dict))


def test_two_at_once_in_order() -> None:
    children = Children()
    assert sorted(children.run("a", "b", "c")) == [("a", 0), ("b", 0), ("c", 0)]
    assert children.begun == ["a", "b", "c"]
    assert children.most_at_once == 2


def test_where_memory_is_for_one_they_take_turns() -> None:
    children = Children(0.1)
    ended = children.run("a", "b", "c", left=lambda: 2**28, known_bytes=2**20)
    assert ended == [("a", 0), ("b", 0), ("c", 0)]
    assert children.most_at_once == 1


def test_one_that_was_killed_beside_another_is_made_again_alone() -> None:
    children = Children(1.0)  # long enough for b to be gone before a has ended
    children.killed_once = {"b"}
    assert sorted(children.run("a", "b", "c")) == [("a", 0), ("b", 0), ("c", 0)]
    assert children.begun == ["a", "b", "c", "b"]
    notes = [e["note"] for e in children.events if "note" in e]
    assert notes == ["memory is short: b was killed, and is made alone later"]


def test_one_that_was_killed_alone_is_told() -> None:
    children = Children()
    children.killed_once = {"a"}
    assert children.run("a") == [("a", -signal.SIGKILL)]


def test_the_youngest_gives_way_when_memory_is_short() -> None:
    left = iter([MANY])  # for the second to begin; then it is gone
    children = Children(0.4)
    ended = children.run("a", "b", left=lambda: next(left, 0))
    assert ended == [("a", 0), ("b", 0)]
    assert children.begun == ["a", "b", "b"]
    notes = [e["note"] for e in children.events if "note" in e]
    assert notes == ["memory is short: b gave way, and is made alone later"]


def test_a_failure_is_told_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    children = Children()
    failing = ["/bin/sh", "-c", "exit 3"]
    monkeypatch.setattr(children, "start", lambda _: os.posix_spawn(failing[0], failing, {}))
    assert children.run("a") == [("a", 3)]
