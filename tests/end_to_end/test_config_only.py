"""Programs without a checkpoint: the worker derives the shapes from config.json."""

import json
from pathlib import Path
from typing import Any

import pytest

from neuronc.errors import InputError
from neuronc.lower.jobs import ProgramJob, run_jobs
from neuronc.lower.program_files import SIGNATURE, STABLEHLO
from neuronc.parallel.split_manifest import read_split_manifest
from neuronc.trace.program_spec import ProgramSpec


def decode_job(name: str, config: dict[str, Any], shapes: Any = None) -> ProgramJob:
    spec = ProgramSpec(phase="decode", bucket=32, batch_size=2, max_length=64)
    return ProgramJob(
        name=name, tp=2, spec=spec, config=config, source="test", shapes=shapes, dtype="f32"
    )


@pytest.mark.slow
def test_a_job_without_shapes_makes_the_checkpoints_program(
    tiny_artifact: Path, tmp_path: Path
) -> None:
    config = json.loads((tiny_artifact / "weights" / "config.json").read_text())
    run_jobs([decode_job("decode_32", config)], tmp_path)

    ours, theirs = (p / "decode_32" for p in (tmp_path, tiny_artifact / "programs"))
    assert (ours / STABLEHLO).read_bytes() == (theirs / STABLEHLO).read_bytes()
    names = [spec[1] for spec in json.loads((ours / SIGNATURE).read_text())["inputs"]]
    assert names[: names.index("keys.0")] == list(
        read_split_manifest(tiny_artifact / "weights").tensors
    )


def test_a_config_that_makes_no_model_is_exit_3(tiny_artifact: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_artifact / "weights" / "config.json").read_text())

    with pytest.raises(InputError, match=r"program decode_32: transformers makes no causal LM"):
        run_jobs([decode_job("decode_32", {**config, "hidden_act": "nonsense"})], tmp_path)
