"""neuronc bench on a real artifact: the document that comes out, in every mode."""

import errno
import json
import os
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
    checked = document["validation"]
    assert checked["requests"] == checked["requests_checked"] == 2 * 2 * 3
    assert checked["tokens_alone"] == checked["tokens_checked"] == 2 * 2 * 3 * 4


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
    named = {name.partition(".")[0] for name in serve["estimates"]}
    assert named <= set(document["definitions"])
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
    assert "sweep: 2 is the best load by 6 good of 6 requests" in " ".join(document["caveats"])


def test_what_people_see(tiny_artifact: Path, capfd: Capture) -> None:
    assert main(["bench", str(tiny_artifact), *QUICK]) == 0
    captured = capfd.readouterr()
    for text in ("programs alone", "latency: 3 requests, 1 at a time", "first token (TTFT)",
                 "throughput: 3 requests, all at once", "output tokens/s", "load time"):  # fmt: skip
        assert text in captured.out
    assert "warning: latency: p99" in captured.err


def test_every_file_that_is_asked_for(tiny_artifact: Path, capfd: Capture, tmp_path: Path) -> None:
    names = {
        "output": "a.json", "html": "a.html", "markdown": "a.md", "csv": "a.csv",
        "perfetto": "trace.json", "save-requests": "requests.jsonl", "save-steps": "steps.jsonl",
        "save-workload": "workload.jsonl",
    }  # fmt: skip
    argv = [
        part for option, name in names.items() for part in (f"--{option}", str(tmp_path / name))
    ]
    document = bench(capfd, tiny_artifact, "--mode", "latency,throughput", *argv)
    assert {path.name for path in tmp_path.iterdir()} == set(names.values())
    assert json.loads((tmp_path / "a.json").read_text()) == document
    requests = [json.loads(line) for line in (tmp_path / "requests.jsonl").open()]
    assert [(r["mode"], r["repeat"]) for r in requests] == [
        (mode, repeat) for mode in ("latency", "throughput") for repeat in (0, 1) for _ in range(3)
    ]
    assert all(request["ttft_ms"] > 0 for request in requests)
    steps = [json.loads(line) for line in (tmp_path / "steps.jsonl").open()]
    assert {step["repeat"] for step in steps} == {0, 1}
    again = ("--lengths", f"@{tmp_path / 'workload.jsonl'}", "--mode", "throughput")
    argv = ["bench", str(tiny_artifact), *again, "--repeats", "1", "--noise", "off", "--quiet"]
    assert main([*argv, "--json"]) == 0
    replayed = json.loads(capfd.readouterr().out)["data"]["timeline"]["requests"]
    before = document["timeline"]["requests"]
    lengths = [[(r["prompt_tokens"], r["new_tokens"]) for r in rs] for rs in (before, replayed)]
    assert lengths[0] == lengths[1]


def test_files_that_cannot_be_written_are_refused_before_measuring(
    tiny_artifact: Path, capfd: Capture, tmp_path: Path
) -> None:
    missing = str(tmp_path / "nowhere" / "a.json")
    assert main(["bench", str(tiny_artifact), "--output", missing]) == 2
    twice = str(tmp_path / "a")
    assert main(["bench", str(tiny_artifact), "--output", twice, "--csv", twice]) == 2
    link = tmp_path / "link"
    link.symlink_to(".")
    argv = ("--output", twice, "--csv", str(link / "a"))
    assert main(["bench", str(tiny_artifact), *argv]) == 2
    link.unlink()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert main(["bench", str(tiny_artifact), "--output", str(pipe)]) == 2
    pipe.unlink()
    told = capfd.readouterr()
    assert "--output" in told.err
    assert told.err.count("name one file twice") == 2
    assert "a device or a pipe" in told.err
    assert "opening" not in told.err
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_costs_one_file_and_not_what_was_measured(
    tiny_artifact: Path, capfd: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neuronc.bench.outputs import save

    def full(_document: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(save, "markdown_lines", full)
    files = ("--markdown", str(tmp_path / "a.md"), "--csv", str(tmp_path / "a.csv"))
    document = bench(capfd, tiny_artifact, "--mode", "latency", *files, code=4)
    assert document["modes"]["latency"]["estimates"]["output_tokens_per_s"]["value"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
