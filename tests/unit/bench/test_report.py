import io
import json
from typing import Any

import pytest
from rich.console import Console

from neuronc.bench.environment import count_cores, parse_cpuinfo, read_environment
from neuronc.bench.report import BenchReport, headline
from neuronc.bench.workload import Workload
from tests.unit.bench.fake_engine import FakeBench

SUMMARY_KEYS = {"mean", "p50", "p90", "p95", "p99", "max", "n"}


@pytest.fixture
def report() -> BenchReport:
    return FakeBench().run(Workload(prompt_tokens=6, new_tokens=4, num_requests=3))


@pytest.fixture
def data(report: BenchReport) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    return loaded


def test_json_has_exactly_the_promised_keys(data: dict[str, Any]) -> None:
    assert set(data) == {
        *("requests", "metrics", "decode_step_ms", "prefill_step_ms", "host_gap_ms"),
        *("output_tokens_per_s", "input_tokens_per_s", "total_tokens_per_s", "requests_per_s"),
        *("load_s", "peak_rss_bytes", "environment", "artifact_digest", "target", "workload"),
        "definitions",
    }
    assert set(data["metrics"]) == {"ttft_ms", "tpot_ms", "itl_ms", "e2e_ms"}
    for summary in (*data["metrics"].values(), data["host_gap_ms"]):
        assert set(summary) == SUMMARY_KEYS
    for name in ("decode_step_ms", "prefill_step_ms"):
        assert set(data[name]) == SUMMARY_KEYS | {"by_bucket"}
        assert all(set(summary) == SUMMARY_KEYS for summary in data[name]["by_bucket"].values())


def test_json_keeps_every_sample_of_every_request(data: dict[str, Any]) -> None:
    assert len(data["requests"]) == 3
    for request in data["requests"]:
        assert (request["prompt_tokens"], request["new_tokens"]) == (6, 4)
        assert len(request["itl_ms"]) == 3
    assert data["metrics"]["itl_ms"]["n"] == 9
    assert data["metrics"]["tpot_ms"]["n"] == 3
    longest = max(gap for request in data["requests"] for gap in request["itl_ms"])
    assert data["metrics"]["itl_ms"]["max"] == longest


def test_padding_of_prompts_is_not_throughput(data: dict[str, Any]) -> None:
    assert list(data["prefill_step_ms"]["by_bucket"]) == ["16"]
    assert data["input_tokens_per_s"] / data["output_tokens_per_s"] == pytest.approx(6 / 4)


def test_every_number_has_a_definition(data: dict[str, Any]) -> None:
    numbers = {name for name in data if name.endswith(("_ms", "_s", "_bytes"))}
    assert numbers | set(data["metrics"]) <= set(data["definitions"])
    assert all(data["definitions"].values())


def test_workload_is_reported_as_it_ran(data: dict[str, Any]) -> None:
    assert data["workload"]["concurrency"] == 2
    assert data["workload"]["rate"] is None


def test_undefined_metrics_are_null() -> None:
    report = FakeBench().run(Workload(prompt_tokens=6, new_tokens=1, num_requests=1))
    data: dict[str, Any] = report.to_dict()
    assert data["metrics"]["tpot_ms"] is None
    assert data["metrics"]["itl_ms"] is None
    assert data["decode_step_ms"] is None
    assert data["host_gap_ms"] is None
    assert data["requests"][0]["tpot_ms"] is None
    _render(report)


def _render(report: BenchReport) -> str:
    out = io.StringIO()
    report.render(Console(file=out, width=80))
    return out.getvalue()


def test_tables_name_the_target_and_every_number_fits_80_columns() -> None:
    workload = Workload(prompt_tokens=16, new_tokens=48, num_requests=150, concurrency=150)
    text = _render(FakeBench().run(workload))
    assert text.count("CPU target (XLA:CPU, not a Neuron device)") == 2
    for name in ("TTFT", "TPOT", "ITL", "end to end", "prefill step, 16", "decode step, 64"):
        assert name in text
    assert " 7050 " in text, "the number of token gaps is cut"
    assert "…" not in text


def test_warnings_are_left_to_whoever_prints_the_report(report: BenchReport) -> None:
    assert any("p99 of ttft_ms" in warning for warning in report.warnings)
    assert "warning" not in _render(report)


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_only_a_neuron_target_reads_like_a_neuron_device(target: str) -> None:
    assert headline("trn1") == "trn1 target (Neuron device)"
    assert "not" in headline(target)


def test_environment_holds_no_host_name_and_no_path() -> None:
    text = json.dumps(read_environment())
    assert "/" not in text.replace("/proc", "")


def test_environment_counts_cores_and_versions() -> None:
    environment = read_environment()
    assert isinstance(environment["threads_visible"], int)
    assert isinstance(environment["memory_bytes"], int)
    assert set(environment["packages"]) >= {"neuronc", "jax", "jaxlib"}  # type: ignore[call-overload]


def test_hyperthreads_share_a_physical_core() -> None:
    two_threads = "physical id : 0\ncore id : 3\n\nphysical id : 0\ncore id : 3\n"
    assert count_cores(parse_cpuinfo(two_threads)) == 1
    assert count_cores(parse_cpuinfo(two_threads + "\nphysical id : 1\ncore id : 3\n")) == 2
    assert count_cores(parse_cpuinfo("model name : no core ids\n")) is None
