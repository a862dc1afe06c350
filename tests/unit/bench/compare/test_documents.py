from pathlib import Path
from typing import Any

import pytest

from neuronc.bench.compare.comparable import caveats, find_mismatches, require_alike
from neuronc.bench.compare.documents import BenchDocument, read_document, with_modes
from neuronc.bench.compare.rules import parse_rules
from neuronc.errors import InputError
from tests.unit.bench.compare.bench_documents import enveloped, make_document, write
from tests.unit.bench.compare.simulated import rules_of


def read(tmp_path: Path, name: str, document: object) -> BenchDocument:
    return read_document(write(tmp_path / f"{name}.json", document))


def test_bare_document_and_envelope_read_alike(tmp_path: Path) -> None:
    document = make_document(1)
    bare, wrapped = (read(tmp_path, "x", d) for d in (document, enveloped(document)))
    assert bare.runs == wrapped.runs
    assert bare.modes == ("latency", "throughput")
    assert len(bare.runs) == 10
    assert bare.runs[0].steps["decode/64"].count == 248


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema": "neuronc.bench/2"}, "schema 'neuronc.bench/2'; expected 'neuronc.bench/1'"),
        ({"schema": None}, "schema None"),
        ({"status": "invalid", "validation": {"problems": ["NaN logits"]}}, "invalid.*NaN logits"),
        ({"status": "invalid"}, "is an invalid benchmark"),
        ({"modes": {}}, "no repeats of latency, throughput, serve"),
        ({"modes": {"steps": {"cells": []}}}, "no repeats of"),
        ({"modes": {"latency": {"repeats": []}}}, "no repeats of"),
        ({"modes": {"latency": {"repeats": [{"num_requests": 1}]}}}, "no whole.*metrics"),
        ({"modes": {"latency": {}}}, "no whole.*repeats"),
        ({"modes": [1]}, "no whole"),
        ({"fingerprint": None}, "no whole.*fingerprint"),
        ({"workload": []}, "no whole.*workload"),
    ],
)
def test_what_is_no_result_of_bench_is_refused_by_name(
    change: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told) as refused:
        read(tmp_path, "x", {**make_document(1), **change})
    assert "x.json" in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize("metric", ["12", True, [1]])
def test_metric_that_is_no_number_is_refused(metric: object, tmp_path: Path) -> None:
    document = make_document(1)
    document["modes"]["latency"]["repeats"][0]["metrics"]["tpot_ms.p50"] = metric
    with pytest.raises(InputError, match="is no number"):
        read(tmp_path, "x", document)


@pytest.mark.parametrize(
    ("text", "told"),
    [("{", "not valid JSON"), ("[1]", "holds a JSON list"), ("\xff", "not valid JSON")],
)
def test_what_is_no_json_object_is_refused(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=told):
        read_document(path)


def test_reports_of_other_commands_and_of_failures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="report of neuronc 'verify'"):
        read(tmp_path, "x", {**enveloped({}), "command": "verify"})
    failed = {**enveloped({}), "ok": False, "error": {"message": "out of memory"}}
    with pytest.raises(InputError, match="benchmark that failed: 'out of memory'"):
        read(tmp_path, "x", failed)
    with pytest.raises(InputError, match="cannot read"):
        read_document(tmp_path / "absent.json")


def test_not_a_number_counts_as_undefined(tmp_path: Path) -> None:
    document = make_document(1)
    document["modes"]["latency"]["repeats"][0]["metrics"]["tpot_ms.p50"] = float("nan")
    assert read(tmp_path, "x", document).runs[0].metrics["tpot_ms.p50"] is None


def test_rules_go_to_the_mode_that_suits_them_and_both_files_have(tmp_path: Path) -> None:
    a = read(tmp_path, "a", make_document(1))
    rules = parse_rules("tpot.p50>+5%,throughput<-5%,throughput:tpot.p50>+5%")
    assert [r.mode for r in with_modes(rules, a, a)] == ["latency", "throughput", "throughput"]
    assert [r.mode for r in with_modes(rules, a, a, mode="latency")][:2] == ["latency"] * 2
    without = make_document(2)
    del without["modes"]["throughput"]
    b = read(tmp_path, "b", without)
    assert [r.mode for r in with_modes(rules[:2], a, b)] == ["latency", "latency"]
    with pytest.raises(InputError, match=r"b\.json has no repeats of throughput; it has latency"):
        with_modes(rules, a, b)
    del without["modes"]["latency"]
    without["modes"]["serve"] = make_document(3)["modes"]["latency"]
    with pytest.raises(InputError, match="no mode in common"):
        with_modes(rules[:2], a, read(tmp_path, "b", without))


def mismatches(tmp_path: Path, b: dict[str, Any], rules: str = "tpot.p50>+5%") -> list[str]:
    sides = read(tmp_path, "a", make_document(1)), read(tmp_path, "b", b)
    return [one.text for one in find_mismatches(*sides, rules_of(rules))]


def test_another_artifact_of_the_same_model_is_what_is_compared(tmp_path: Path) -> None:
    other = make_document(2, weights_digest="cd", decode_buckets=[32, 64])
    assert mismatches(tmp_path, other) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"target": "trn2"}, "target is 'cpu' in A and 'trn2' in B"),
        ({"dtype": "bf16"}, "dtype is 'f32' in A and 'bf16' in B"),
        ({"quantize": "int8"}, "quantize is None in A and 'int8' in B"),
        ({"tp": 2}, "tp is 1 in A and 2 in B"),
        ({"batch_size": 8}, "batch_size is 4 in A and 8 in B"),
        ({"max_length": 64}, "max_length is 512 in A and 64 in B"),
        (
            {"model": {"model_type": "llama", "config_sha256": "c1"}},
            "model.config_sha256 is 'c0' in A and 'c1' in B",
        ),
    ],
)
def test_unlike_fingerprints_are_named(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    assert mismatches(tmp_path, make_document(2, **change)) == [told]


def test_unlike_workloads_machines_and_places_are_named(tmp_path: Path) -> None:
    other = make_document(2)
    other["ran_on"] = "trn2"
    other["environment"]["threads_visible"] = 64
    other["workload"] |= {"seed": 1, "rate": 2.0}
    other["modes"]["latency"]["concurrency"] = 2
    assert mismatches(tmp_path, other) == [
        "ran_on is 'cpu' in A and 'trn2' in B",
        "environment.threads_visible is 2 in A and 64 in B",
        "workload.seed is 0 in A and 1 in B",
        "workload.rate is None in A and 2.0 in B",
        "latency.concurrency is 1 in A and 2 in B",
    ]


def test_slo_matters_to_rules_about_it_only(tmp_path: Path) -> None:
    other = make_document(2)
    other["modes"]["latency"]["slo"] = {"ttft_ms": 500}
    assert mismatches(tmp_path, other) == []
    assert mismatches(tmp_path, other, "goodput<-5%") == [
        "latency.slo.ttft_ms is None in A and 500 in B"
    ]
    other["modes"]["latency"]["slo"] = {"itl_ms": 80}
    assert mismatches(tmp_path, other, "goodput<-5%") == [
        "latency.slo.itl_ms is None in A and 80 in B"
    ]


def test_refusal_names_all_mismatches_and_the_way_out(tmp_path: Path) -> None:
    sides = (
        read(tmp_path, "a", make_document(1)),
        read(tmp_path, "b", make_document(2, tp=2, dtype="bf16")),
    )
    found = find_mismatches(*sides, rules_of())
    with pytest.raises(InputError, match=r"dtype is .*; tp is ") as refused:
        require_alike(found)
    assert "--allow-different" in refused.value.hint
    require_alike(())
    told = caveats(*sides, found, in_turn=False)
    assert sum("--allow-different" in caveat for caveat in told) == 2


def test_noise_tools_and_a_missing_verification_are_caveats(tmp_path: Path) -> None:
    noisy = make_document(2, verified=False, tool_versions={"neuronc": "0.2.0"})
    noisy |= {"status": "noisy", "noise": {"findings": ["steal 12 %"]}}
    a, b = read(tmp_path, "a", make_document(1)), read(tmp_path, "b", noisy)
    told = " | ".join(caveats(a, b, (), in_turn=False))
    assert "B was measured on a noisy machine: steal 12 %" in told
    assert "B is an unverified artifact" in told
    assert "neuronc is '0.1.0' in A and '0.2.0' in B" in told
    assert "one after the other" in told
    in_turn = " ".join(caveats(a, a, (), in_turn=True))
    assert "same artifact" in in_turn
    assert "one after the other" not in in_turn


def test_a_long_finding_is_cut_between_words_and_cannot_steer_a_terminal(tmp_path: Path) -> None:
    noisy = make_document(2)
    finding = "\x1b[2J" + "interrupted " * 50
    noisy |= {"status": "noisy", "noise": {"findings": [finding]}}
    a, b = read(tmp_path, "a", make_document(1)), read(tmp_path, "b", noisy)
    (told,) = [text for text in caveats(a, b, (), in_turn=False) if "noisy machine" in text]
    assert told.endswith("interrupted ...")
    assert len(told) < 220
    assert told.isprintable()


def test_another_number_of_requests_is_a_caveat(tmp_path: Path) -> None:
    other = make_document(2)
    other["workload"]["num_requests"] = 99
    assert mismatches(tmp_path, other) == []
    sides = read(tmp_path, "a", make_document(1)), read(tmp_path, "b", other)
    assert "workload.num_requests is" in " ".join(caveats(*sides, (), in_turn=False))
