"""What is written for NxD Inference."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.parallel.split_options import SplitOptions
from neuronc.parallel.split_tensors import split_checkpoint

UP = "model.layers.0.mlp.up_proj.weight"


def write(source: Path, out_dir: Path, *, dtype: str = "auto") -> None:
    out_dir.mkdir()
    checkpoint = open_checkpoint(str(source))
    split_checkpoint(checkpoint, out_dir, tp=2, dtype=dtype, options=SplitOptions(layout="nxdi"))


def test_neuron_config_says_what_is_known_and_nothing_else(
    tiny_llama: Path, tmp_path: Path
) -> None:
    write(tiny_llama, tmp_path / "out", dtype="bf16")
    text = (tmp_path / "out" / "neuron_config.json").read_text()
    found = json.loads(text)
    assert found.pop("neuron_config") == {
        "save_sharded_checkpoint": True,
        "torch_dtype": "bfloat16",
        "tp_degree": 2,
    }
    assert found == json.loads((tmp_path / "out" / "config.json").read_text())
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"


def test_rank_files_are_the_shards_under_the_names_of_the_tool(
    tiny_llama: Path, tmp_path: Path
) -> None:
    write(tiny_llama, tmp_path / "out")
    weights = tmp_path / "out" / "weights"
    assert sorted(path.name for path in weights.iterdir()) == [
        "tp0_sharded_checkpoint.safetensors",
        "tp1_sharded_checkpoint.safetensors",
    ]
    whole = load_file(tiny_llama / "model.safetensors")[UP]
    shards = [load_file(path)[UP] for path in sorted(weights.iterdir())]
    assert np.array_equal(np.concatenate(shards), whole)
