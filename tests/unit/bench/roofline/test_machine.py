import json
from pathlib import Path

import pytest

from neuronc.bench.roofline import cpu_peaks
from neuronc.bench.roofline.cpu_peaks import (
    best_s,
    buffer_bytes,
    last_level_cache_bytes,
    measure_cpu,
)
from neuronc.bench.roofline.machine import Machine, neuron_machine
from neuronc.bench.roofline.needed import Work
from neuronc.bench.roofline.utilisation import utilisation
from neuronc.errors import PlanError
from neuronc.targets.neuron.chips import NEURON_TARGETS

GIB = 2**30
MACHINE = Machine(
    read_bytes_per_s=100e9, flops_per_s={"f32": 1e12}, source="measured", how="in a test"
)


def test_a_data_sheets_figures_are_never_called_measured() -> None:
    for target in NEURON_TARGETS:
        made = neuron_machine(target, ranks=1)
        assert made.source == "vendor"
        assert made.how.endswith("not measured")


@pytest.mark.parametrize(
    ("target", "ranks", "lnc", "bandwidth", "bf16"),
    [
        ("inf2", 1, None, 410 * GIB, 95e12),
        ("trn1", 2, None, 820 * GIB, 190e12),
        ("trn1n", 32, 1, 16 * 820 * GIB, 16 * 190e12),
        ("trn2", 4, None, 2.9e12, 667e12),  # four logical cores of two are the chip
        ("trn2", 4, 1, 1.45e12, 333.5e12),
        ("trn3", 1, 2, 1.225e12, 167.75e12),
    ],
)
def test_ranks_have_their_share_of_the_chip(
    target: str, ranks: int, lnc: int | None, bandwidth: float, bf16: float
) -> None:
    made = neuron_machine(target, ranks=ranks, lnc=lnc)
    assert made.read_bytes_per_s == pytest.approx(bandwidth)
    assert made.flops_per_s["bf16"] == pytest.approx(bf16)


def test_a_core_size_that_there_is_not_is_refused() -> None:
    with pytest.raises(PlanError, match="--lnc 2"):
        neuron_machine("trn1", ranks=1, lnc=2)


def test_caches_are_counted_once_each(tmp_path: Path) -> None:
    for cpu, (shared, size) in enumerate([("0-1", "32768K"), ("0-1", "32768K"), ("2", "16M")]):
        folder = tmp_path / f"cpu{cpu}" / "cache" / "index3"
        folder.mkdir(parents=True)
        (folder / "shared_cpu_list").write_text(f"{shared}\n")
        (folder / "size").write_text(f"{size}\n")
    assert last_level_cache_bytes(tmp_path) == 48 * 2**20
    assert buffer_bytes(tmp_path) == (256 * 2**20, 48 * 2**20)
    (tmp_path / "cpu2" / "cache" / "index3" / "size").write_text("96M\n")
    assert buffer_bytes(tmp_path)[0] == 512 * 2**20
    assert last_level_cache_bytes(tmp_path / "none") == 0


def test_the_best_of_several_calls_after_an_untimed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, lengths_s = 0.0, [0.5, 3.0, 1.0, 2.0, 0.5]

    def call() -> None:
        nonlocal now_s
        now_s += lengths_s.pop(0)

    monkeypatch.setattr("neuronc.bench.roofline.cpu_peaks.time.perf_counter", lambda: now_s)
    assert best_s(call, 5.0) == 1.0
    assert lengths_s == [0.5]  # 3 and 1 left time for one more
    lengths_s[:] = [0.5, 9.0, 8.0, 7.0]
    assert best_s(call, 5.0) == 8.0  # two at least


def test_measuring_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small, to be quick; the bounds are of any machine that could run this."""
    monkeypatch.setattr(cpu_peaks, "MIN_BUFFER_BYTES", 2**24)
    monkeypatch.setattr(cpu_peaks, "CACHES", 0)
    monkeypatch.setattr(cpu_peaks, "SIZES", (256,))
    made = measure_cpu(seconds_per_kernel=0.01)
    assert made.source == "measured"
    assert 1e8 < made.read_bytes_per_s < 1e13
    assert set(made.flops_per_s) == {"f32", "bf16"}
    assert all(1e8 < rate < 1e15 for rate in made.flops_per_s.values())
    assert "over 16 MiB" in made.how
    told = json.loads(json.dumps(made.to_dict()))
    assert list(told) == ["read_bytes_per_s", "flops_per_s", "source", "how"]


def test_utilisation_is_of_all_ranks_and_the_real_tokens() -> None:
    made = utilisation(
        Work(bytes=10**9, flops=4 * 10**9),
        Work(bytes=5 * 10**8, flops=10**9),
        ms=40.0,
        machine=MACHINE,
        dtype="f32",
        ranks=2,
    )
    assert (made.bytes, made.flops) == (2 * 10**9, 8 * 10**9)
    assert (made.needed_bytes, made.needed_flops) == (10**9, 2 * 10**9)
    assert made.intensity == 4.0
    assert made.mbu == pytest.approx(1e9 / 0.04 / 100e9)
    assert made.mfu == pytest.approx(2e9 / 0.04 / 1e12)
    assert made.floor_ms == pytest.approx(20.0)  # 2 GB at 100 GB/s; the arithmetic takes 8
    assert made.over_floor == pytest.approx(2.0)


def test_floor_is_the_arithmetics_where_that_is_longer() -> None:
    work = Work(bytes=10**6, flops=10**12)
    made = utilisation(work, work, ms=None, machine=MACHINE, dtype="f32", ranks=1)
    assert made.floor_ms == pytest.approx(1000.0)
    assert (made.mbu, made.mfu, made.over_floor) == (None, None, None)


def test_an_unknown_peak_gives_no_mfu_but_a_floor_of_memory() -> None:
    work = Work(bytes=10**9, flops=10**15)
    made = utilisation(work, work, ms=10.0, machine=MACHINE, dtype="bf16", ranks=1)
    assert made.mfu is None
    assert made.mbu == pytest.approx(1.0)
    assert made.floor_ms == pytest.approx(10.0)
