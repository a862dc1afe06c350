"""neuronc bench on a real artifact: the document that comes out, in every mode."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from neuronc.bench.outputs.schema import load_schema
from neuronc.cli.app import main

QUICK = ("--new-tokens", "4", "--requests", "3", "--repeats", "2", "--noise", "off", "--quiet")
Capture = pytest.CaptureFixture[str]


def bench(capfd: Capture, artifact: Path, *argv: str, code: int = 0) -> dict[str, Any]:
    assert main(["bench", str(artifact), *QUICK, *argv, "--json"]) == code
    document: dict[str, Any] = json.loads(capfd.readouterr().out)["data"]
    jsonschema.validate(document, load_schema())
    return document


def test_default_measures_programs_latency_and_throughput(
    tiny_artifact: Path, capfd: Capture
) -> None:
    document = bench(capfd, tiny_artifact, "--prompt-tokens", "9")
    assert set(document["modes"]) == {"steps", "latency", "throughput"}
    cells = {(c["class"], c["active_slots"]) for c in document["modes"]["steps"]["cells"]}
    assert cells == {
        ("prefill/8", 1), ("prefill/16", 1),
        ("decode/32", 1), ("decode/32", 2), ("decode/64", 1), ("decode/64", 2),
    }  # fmt: skip
    latency = document["modes"]["latency"]
    assert latency["pooled"]["itl_ms"]["n"] == 2 * 3 * 3
    assert latency["pooled"]["ttft_ms"]["n"] == 2 * 3
    assert len(latency["repeats"]) == 2
    assert document["modes"]["throughput"]["estimates"]["output_tokens_per_s"]["value"] > 0
    assert document["headline"] == "CPU target (XLA:CPU, not a Neuron device)"
    assert document["fingerprint"]["verified"]


def test_tokens_are_compared_with_what_verification_recorded(
    tiny_artifact: Path, capfd: Capture
) -> None:
    document = bench(capfd, tiny_artifact, "--mode", "latency")  # 32 tokens, as recorded
    found = document["validation"]
    assert found["source"] == "recorded by verify"
    assert found["tokens_with_reference"] >= 2 * 2 * 3
    assert found["tokens_checked"] == 2 * 3 * 4


def test_wrong_tokens_make_the_run_invalid_and_no_number_is_printed(
    tiny_artifact: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neuronc.runtime import engine

    monkeypatch.setattr(engine, "sample", lambda logits, *_: int(logits.argmin()))
    document = bench(capfd, tiny_artifact, "--mode", "latency", code=15)
    assert (document["status"], document["modes"]) == ("invalid", {})
    assert "the original model's" in document["validation"]["problems"][0]
    assert main(["bench", str(tiny_artifact), *QUICK, "--mode", "latency"]) == 15
    captured = capfd.readouterr()
    assert "invalid" in captured.out
    assert "ttft" not in captured.out.lower()
    assert "tokens of timed runs were wrong" in captured.err


def test_serving_under_objectives(tiny_artifact: Path, capfd: Capture) -> None:
    argv = ("--rate", "200", "--arrival", "gamma:0.5", "--slo", "ttft=10s,tpot=5s")
    document = bench(capfd, tiny_artifact, *argv)
    serve = document["modes"]["serve"]
    assert (serve["arrival"], serve["rate"]) == ("gamma:0.5", 200)
    assert serve["slo"]["joint"]["attainment"] == 1
    assert serve["estimates"]["goodput_requests_per_s"]["value"] > 0
    assert set(document["modes"]) == {"serve"}


def test_trace_of_a_file_is_replayed(tiny_artifact: Path, capfd: Capture, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    lengths = [(9, 4), (3, 2), (20, 5), (1, 1)]
    lines = (
        json.dumps({"prompt_tokens": p, "new_tokens": n, "arrival_s": 0.01 * i})
        for i, (p, n) in enumerate(lengths)
    )
    trace.write_text("\n".join(lines))
    argv = ["bench", str(tiny_artifact), "--lengths", f"@{trace}", "--arrival", "trace"]
    assert main([*argv, "--repeats", "1", "--noise", "off", "--quiet", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)["data"]
    jsonschema.validate(document, load_schema())
    requests = document["timeline"]["requests"]
    assert [(r["prompt_tokens"], r["new_tokens"]) for r in requests] == lengths
    assert [r["sched_ns"] for r in requests] == [0, 10_000_000, 20_000_000, 30_000_000]


def test_sweep_has_a_point_for_every_load(tiny_artifact: Path, capfd: Capture) -> None:
    argv = ("--mode", "sweep", "--concurrency", "1,2", "--slo", "ttft=10s")
    document = bench(capfd, tiny_artifact, *argv)
    sweep = document["modes"]["sweep"]
    assert [point["at"] for point in sweep["points"]] == [1, 2]
    assert sweep["by"] == "concurrency"
    assert sweep["best"]["at"] == 2


def test_what_people_see(tiny_artifact: Path, capfd: Capture) -> None:
    assert main(["bench", str(tiny_artifact), *QUICK]) == 0
    captured = capfd.readouterr()
    for text in ("programs alone", "latency: 3 requests, 1 at a time", "first token (TTFT)",
                 "throughput: 3 requests, all at once", "output tokens/s", "load time"):  # fmt: skip
        assert text in captured.out
    assert "warning: latency: p99" in captured.err
