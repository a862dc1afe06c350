"""From checkpoint to tokens and times on the device double, against the CPU target's artifact."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from neuronc.artifact.manifest import read_manifest
from neuronc.cli.app import main
from neuronc.runtime.engine import Engine
from neuronc.runtime.request import Request
from neuronc.runtime.session import Session
from tests.neuron_doubles import CompilerDouble

_SIZES = ("--batch-size", "2", "--max-length", "48", "--prefill-buckets", "8")


def run(capfd: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    code = main([*argv, "--quiet", "--json"])
    document = json.loads(capfd.readouterr().out)
    assert code == 0, document["error"]
    data: dict[str, Any] = document["data"]
    return data


def answers(artifact: Path) -> dict[str, tuple[int, ...]]:
    requests = [
        Request(request_id=str(n), prompt_ids=tuple(range(3, 3 + n)), max_new_tokens=9)
        for n in (5, 13, 30)
    ]
    with closing(Session.open(artifact)) as session:
        return Engine(session).run(requests)


@pytest.mark.slow
@pytest.mark.parametrize("tp", [1, 2, 4])
@pytest.mark.usefixtures("_nrtpy")
def test_ranks_on_inf2_give_the_cpu_artifacts_tokens(
    tp: int,
    tiny_checkpoint: Path,
    compiler: CompilerDouble,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    cpu, neuron = str(tmp_path / "cpu"), str(tmp_path / "inf2")
    asked = ("compile", str(tiny_checkpoint), "--tp", str(tp), *_SIZES)
    assert run(capfd, *asked, "-o", cpu)["verification"]["passed"]
    assert run(capfd, *asked, "-o", neuron, "--target", "inf2")["verification"]["passed"]
    assert sorted(compiler.compiled()) == ["decode_48", "prefill_8"]
    assert not read_manifest(Path(neuron)).is_bundle

    assert answers(Path(neuron)) == answers(Path(cpu))
    prompt = ("--prompt", "a city", "--max-new-tokens", "12")
    texts = [run(capfd, "generate", place, *prompt)["answers"] for place in (cpu, neuron)]
    assert texts[0] == texts[1]

    work = ("--prompt-tokens", "9", "--new-tokens", "4", "--requests", "2", "--repeats", "1")
    report = run(capfd, "bench", neuron, *work, "--mode", "latency")
    assert report["ran_on"] == "inf2 test double"
    assert set(report["load"]["device"]) == {"decode_48", "prefill_8"}
