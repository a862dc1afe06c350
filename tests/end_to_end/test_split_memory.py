"""A checkpoint larger than the memory allowed: split, and put together, in a GiB."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from neuronc.families.model_config import read_model_config
from tests.unit.parallel.decoder_shapes import decoder_shapes

GIB = 1 << 30
FIELDS = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "num_hidden_layers": 10,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}


def sparse_checkpoint(folder: Path, num_files: int = 4) -> int:
    """Files of zeros in bf16 that take no room on the disk; their size together."""
    shapes = decoder_shapes(read_model_config(FIELDS, source="test"))
    (folder / "config.json").write_text(json.dumps(FIELDS))
    names, places, total = list(shapes), {}, 0
    for number in range(num_files):
        file = f"model-{number + 1:05}-of-{num_files:05}.safetensors"
        header, end = {}, 0
        for name in names[number::num_files]:
            size = 2
            for length in shapes[name]:
                size *= length
            offsets = [end, end + size]
            header[name] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": offsets}
            places[name], end = file, end + size
        text = json.dumps(header).encode()
        with (folder / file).open("wb") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            stream.truncate(8 + len(text) + end)
        total += end
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def run(*argv: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "neuronc", *argv, "--quiet", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout
    data: dict[str, Any] = json.loads(done.stdout)["data"]
    return data


@pytest.mark.slow
def test_6_gb_are_split_within_1_gib(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    total = sparse_checkpoint(tmp_path / "in")
    assert total > 6e9

    out = ("-o", str(tmp_path / "out"), "--tp", "2", "--max-memory", "1GiB")
    data = run("split", str(tmp_path / "in"), *out)

    assert data["bytes_read"] == total
    assert data["bytes_written"] > total
    assert data["peak_rss_bytes"] < GIB
    # what it takes does not grow with the checkpoint: the largest tensor alone has 1 GB
    assert data["peak_rss_bytes"] < 384 << 20
