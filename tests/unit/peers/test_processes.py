"""Engine processes: what a good one gives, and that a bad one is told and stops nobody."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.peers.process import OWN
from tests.benchmarks.peers.processes import Outcome, run_engine
from tests.benchmarks.peers.rounds import Cell, run_rounds

ENGINE = Path(__file__).with_name("fake_engine.py")
PROMPT = [10, 20, 30, 40]


def job(folder: Path, dtype: str) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    (folder / "made.json").write_text(json.dumps({"dtype": dtype, "max_length": 8}))
    return {
        "do": "measure",
        "folder": str(folder),
        "setting": {"dtype": dtype, "threads": 1, "prompt_tokens": 4, "new_tokens": 4},
        "cpus": [min(os.sched_getaffinity(0))],
        "warmups": 3,
        "repeats": 2,
        "prompt": PROMPT,
        "warmup": [1, 2, 3, 4],
    }


def run(folder: Path, dtype: str) -> Outcome:
    return run_engine(Path(sys.executable), ENGINE, job(folder, dtype))


def test_result(tmp_path: Path) -> None:
    outcome = run(tmp_path, "f32")
    assert outcome.reason == ""
    result = outcome.result
    assert result is not None
    assert result["tokens"] == [11, 21, 31, 41]
    assert result["repeatable"] is True
    assert [len(gaps) for gaps in result["itl_ms"]] == [3, 3]
    assert min(result["ttft_ms"]) >= 1
    assert min(gap for gaps in result["itl_ms"] for gap in gaps) >= 1
    assert result["rss_bytes"] > 1e6
    assert result["load_s"] >= 0
    assert result["warmup_s"] >= 0.012
    assert result["versions"] == {"fake": "1"}
    assert result["settings"] == {"threads": "1"}
    assert result["dtypes"] == {"weights": "f32"}
    assert 0 <= outcome.others <= 1


@pytest.mark.parametrize(
    ("dtype", "reason"),
    [
        ("dies", "ValueError: no such instruction"),
        ("short", "3 tokens instead of 4"),
        ("at once", "the tokens came all at once"),
        ("other dtype", "measured in {'weights': 'f16'}, not in other dtype"),
    ],
)
def test_reason_of_a_failure(tmp_path: Path, dtype: str, reason: str) -> None:
    outcome = run(tmp_path, dtype)
    assert outcome.result is None
    assert reason in outcome.reason


def test_environment_tunes_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "haswell")
    monkeypatch.setenv("XLA_FLAGS", "--xla_nonsense")
    engine = tmp_path / "engine.py"
    engine.write_text(
        "import os\n"
        "def prepare(model, folder, setting):\n"
        "    assert 'OPENBLAS_CORETYPE' not in os.environ and 'XLA_FLAGS' not in os.environ\n"
        "    assert os.environ['HF_HUB_OFFLINE'] == '1'\n"
    )
    setting = {"dtype": "f32", "prompt_tokens": 4, "new_tokens": 4}
    prepare = {"do": "prepare", "model": ".", "folder": ".", "setting": setting}
    assert run_engine(Path(sys.executable), engine, prepare).reason == ""


OWN_ENGINE = """
import os, time

class Engine:
    def __init__(self, folder, setting):
        assert (setting.is_own, setting.threads) == (True, 0)
        self.versions, self.settings = {}, {"omp": str(os.environ.get("OMP_NUM_THREADS"))}
        self.settings["cpus"] = str(len(os.sched_getaffinity(0)))

    def generate(self, prompt, count, on_token):
        for token in prompt:
            time.sleep(0.001)
            on_token(token)

    def dtypes(self):
        return {"weights": "int8"}
"""


def test_what_an_engine_chooses_is_told_and_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    engine = tmp_path / "engine.py"
    engine.write_text(OWN_ENGINE)
    setting = {"dtype": OWN, "threads": 0, "prompt_tokens": 4, "new_tokens": 4}
    outcome = run_engine(
        Path(sys.executable), engine, {**job(tmp_path, OWN), "setting": setting, "cpus": []}
    )
    assert outcome.reason == ""
    assert outcome.result is not None
    assert outcome.result["dtypes"] == {"weights": "int8"}
    cpus = str(len(os.sched_getaffinity(0)))
    assert outcome.result["settings"] == {"omp": "None", "cpus": cpus}


def test_missing_interpreter_is_a_failure(tmp_path: Path) -> None:
    outcome = run_engine(tmp_path / "python", ENGINE, job(tmp_path, "f32"))
    assert outcome.result is None
    assert "No such file" in outcome.reason


def test_a_failure_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    told: list[str] = []
    kept: list[int] = []
    cells = [Cell(engine="fake", dtype=dtype, threads=1) for dtype in ("f32", "dies", "bf16")]
    found = run_rounds(
        cells,
        lambda cell: run(tmp_path / cell.dtype, cell.dtype),
        rounds=2,
        seed=1,
        tell=told.append,
        keep=lambda rounds: kept.append(len(rounds)),
    )
    assert kept == [1, 2]
    for number, outcomes in enumerate(found, start=1):
        assert {cell.dtype for cell, o in outcomes.items() if o.result is not None} == {
            "f32",
            "bf16",
        }
        assert any(f"round {number}: fake dies failed: exit status 1" in line for line in told)
