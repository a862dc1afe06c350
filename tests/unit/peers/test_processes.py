"""Engine processes: what a good one gives, and that a bad one is told and stops nobody."""

import json
import os
import sys
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.benchmarks.peers import processes
from tests.benchmarks.peers.process import OWN
from tests.benchmarks.peers.processes import EngineProcess, Outcome, prepare_engine
from tests.benchmarks.peers.rounds import Cell, beside, run_rounds

ENGINE = Path(__file__).with_name("fake_engine.py")
PROMPT = [10, 20, 30, 40]


def job(folder: Path, dtype: str) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    (folder / "made.json").write_text(json.dumps({"dtype": dtype, "max_length": 8}))
    return {
        "do": "answer",
        "folder": str(folder),
        "setting": {"dtype": dtype, "threads": 1, "prompt_tokens": 4, "new_tokens": 4},
        "cpus": [min(os.sched_getaffinity(0))],
        "warmups": 3,
        "prompt": PROMPT,
        "warmup": [1, 2, 3, 4],
    }


def engine(folder: Path, dtype: str) -> EngineProcess:
    return EngineProcess(Path(sys.executable), ENGINE, job(folder, dtype))


def run(folder: Path, dtype: str) -> Outcome:
    with closing(engine(folder, dtype)) as process:
        return process.answer(settle_s=0)


def test_result(tmp_path: Path) -> None:
    outcome = run(tmp_path, "f32")
    assert outcome.reason == ""
    result = outcome.result
    assert result is not None
    assert result["tokens"] == [11, 21, 31, 41]
    assert len(result["itl_ms"]) == 3
    assert result["ttft_ms"] >= 1
    assert min(result["itl_ms"]) >= 1
    assert result["rss_bytes"] > 1e6
    assert result["load_s"] >= 0
    assert result["warmup_s"] >= 0.012
    assert result["versions"] == {"fake": "1"}
    assert result["settings"] == {"threads": "1"}
    assert result["dtypes"] == {"weights": "f32"}
    assert 0 <= outcome.others <= 1


def test_a_process_stays_open_and_is_started_again_when_it_ended(tmp_path: Path) -> None:
    """It dies in its second answer, the seventh in all."""
    with closing(engine(tmp_path, "dies later")) as process:
        first, broken, again = (process.answer(settle_s=0) for _ in range(3))
    assert broken.result is None
    assert broken.reason == "exit status 1: ValueError: out of luck"
    assert first.result is not None
    assert again.result is not None
    assert first.result["load_s"] != again.result["load_s"]


def test_answers_come_from_one_process(tmp_path: Path) -> None:
    with closing(engine(tmp_path, "f32")) as process:
        loads = [process.answer(settle_s=0).result for _ in range(3)]
    assert len({found["load_s"] for found in loads if found is not None}) == 1
    assert None not in loads


def test_bytes_that_are_no_text_stop_nothing(tmp_path: Path) -> None:
    noisy = tmp_path / "engine.py"
    noisy.write_text("import sys\nsys.stdout.buffer.write(b'\\xff\\xfe\\n')\n" + ENGINE.read_text())
    asked = job(tmp_path, "f32")
    with closing(EngineProcess(Path(sys.executable), noisy, asked)) as process:
        assert process.answer(settle_s=0).reason == ""


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ("print('peer: {')", "what it tells is not JSON"),
        ("os.close(1); time.sleep(60)", "it closed its output and goes on"),
    ],
)
def test_nonsense_is_a_failure(
    says: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_ENDS_S", 0.1)
    odd = tmp_path / "engine.py"
    odd.write_text(f"import os, time\n{says}\n" + ENGINE.read_text())
    with closing(EngineProcess(Path(sys.executable), odd, job(tmp_path, "f32"))) as process:
        assert reason in process.answer(settle_s=0).reason


def test_a_process_that_is_closed_is_gone(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    process = engine(tmp_path, "f32")
    assert process.answer(settle_s=0).result is not None
    (child,) = set(psutil.Process().children()) - before
    process.close()
    assert not child.is_running()
    process.close()


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
    assert prepare_engine(Path(sys.executable), engine, prepare) == ""


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
    asked = {**job(tmp_path, OWN), "setting": setting, "cpus": []}
    with closing(EngineProcess(Path(sys.executable), engine, asked)) as process:
        outcome = process.answer(settle_s=0)
    assert outcome.reason == ""
    assert outcome.result is not None
    assert outcome.result["dtypes"] == {"weights": "int8"}
    cpus = str(len(os.sched_getaffinity(0)))
    assert outcome.result["settings"] == {"omp": "None", "cpus": cpus}


def test_missing_interpreter_is_a_failure(tmp_path: Path) -> None:
    asked = job(tmp_path, "f32")
    outcome = EngineProcess(tmp_path / "python", ENGINE, asked).answer(settle_s=0)
    assert outcome.result is None
    assert "No such file" in outcome.reason
    assert "No such file" in prepare_engine(tmp_path / "python", ENGINE, asked)


def test_a_failure_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    told: list[str] = []
    cells = [Cell(engine="fake", dtype=dtype, threads=1) for dtype in ("f32", "dies", "bf16")]
    with ExitStack() as stack:
        answers = {}
        for cell in cells:
            process = stack.enter_context(closing(engine(tmp_path / cell.dtype, cell.dtype)))
            answers[cell] = partial(process.answer, settle_s=0)
        kept = list(run_rounds([cells, list(reversed(cells))], answers, tell=told.append))
    assert [len(rounds) for rounds in kept] == [1, 2]
    for number, outcomes in enumerate(kept[-1], start=1):
        assert {cell.dtype for cell, o in outcomes.items() if o.result is not None} == {
            "f32",
            "bf16",
        }
        assert any(f"round {number}: fake dies failed: exit status 1" in line for line in told)


def test_rounds_of_one_group_stand_beside_those_of_another() -> None:
    a, b = (Cell(engine="fake", dtype=dtype, threads=1) for dtype in ("f32", "bf16"))
    first, second, third = (Outcome(result={"tokens": [number]}) for number in range(3))
    assert beside([], [{a: first}]) == [{a: first}]
    both = beside([{a: first}, {a: second}], [{b: third}])
    assert both == [{a: first, b: third}, {a: second}]
