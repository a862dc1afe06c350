"""How many programs are made at once: by number, by prediction, by what is left."""

from pathlib import Path

import pytest

from neuronc.lower.admission import Admission, Demand, available_memory_bytes

GIB = 2**30


def admission(left_bytes: int, num_parallel: int = 4) -> Admission:
    return Admission(
        num_parallel=num_parallel, available_bytes=lambda: left_bytes, guess_bytes=2 * GIB
    )


def demand(predicted: float, observed: float) -> Demand:
    return Demand(predicted_bytes=int(predicted * GIB), observed_bytes=int(observed * GIB))


def test_one_alone_may_always_begin() -> None:
    assert admission(0).may_start(100 * GIB, [])


@pytest.mark.parametrize(
    ("left", "running", "may"),
    [
        (4, [demand(2, 2)], True),  # what runs has all it needs
        (4, [demand(2, 0)], False),  # 2 for it and 2 for this one leave no reserve
        (5, [demand(2, 0)], True),
        (2, [demand(2, 3)], False),  # more than predicted gives nothing back
        (2.3, [demand(2, 3)], True),
    ],
)
def test_another_begins_where_both_have_room(left: float, running: list[Demand], may: bool) -> None:
    assert admission(int(left * GIB)).may_start(2 * GIB, running) is may


def test_never_more_than_asked_for() -> None:
    assert not admission(100 * GIB, num_parallel=2).may_start(1, [demand(0, 0)] * 2)


def test_a_prediction_is_what_is_known_else_the_largest_here_else_a_guess() -> None:
    one = admission(GIB)
    assert one.predict(None) == 2 * GIB
    one.ended(0)  # nobody looked in time: says nothing
    assert one.predict(None) == 2 * GIB
    one.ended(3)
    one.ended(1)
    assert one.predict(None) == 3
    assert one.predict(7) == 7


def test_memory_is_short_for_several_only() -> None:
    assert admission(GIB // 8).is_short(2)
    assert not admission(GIB // 8).is_short(1)
    assert not admission(GIB).is_short(2)


def group(folder: Path, limit: str, used: int, inactive: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n")


def test_the_narrowest_control_group_decides(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/build/job\n")
    top = tmp_path / "sys/fs/cgroup"
    group(top / "build/job", "max", 10, 0)
    assert available_memory_bytes(tmp_path) > GIB // 100  # the host's own
    group(top / "build", "1000", 700, 200)
    assert available_memory_bytes(tmp_path) == 500
    group(top / "build/job", "300", 100, 50)
    assert available_memory_bytes(tmp_path) == 250


def test_without_groups_of_version_2_the_host_decides(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("3:memory:/job\n")
    assert available_memory_bytes(tmp_path) > GIB // 100
