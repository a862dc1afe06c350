"""--max-memory is refused where it could not be kept."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch  # as whoever reads a torch file has

from neuronc.checkpoint.tensor_info import TensorInfo
from neuronc.dtypes import DTYPES
from neuronc.errors import PlanError
from neuronc.parallel import split_memory
from neuronc.parallel.split_memory import MIB, check_fits
from neuronc.parallel.split_options import SplitOptions

if TYPE_CHECKING:
    import numpy as np

INFOS = {"w": TensorInfo(name="w", shape=(100 * MIB,), dtype=DTYPES["bf16"])}
assert torch, "imported for the sake of it"


@dataclass(frozen=True)
class Whole:
    def read(self, name: str) -> "np.ndarray[Any, Any]":
        raise AssertionError


@dataclass(frozen=True)
class Ranged(Whole):
    def read_range(self, name: str, start: int, stop: int) -> "np.ndarray[Any, Any]":
        raise AssertionError


@pytest.mark.parametrize(
    ("reader", "layout", "taken_mib", "least_mib"),
    [
        (Ranged(), "neuronc", 60, 144),
        (Ranged(), "neuronc", 300, 316),  # torch was imported
        (Whole(), "neuronc", 60, 728),
        (Whole(), "neuronc", 500, 1100),
        (Ranged(), "transformers-neuronx", 500, 1100),  # holds whole tensors
    ],
)
def test_the_least_memory_is_what_the_process_took_and_what_is_held(
    monkeypatch: pytest.MonkeyPatch, reader: Whole, layout: Any, taken_mib: int, least_mib: int
) -> None:
    monkeypatch.setattr(split_memory, "peak_rss_bytes", lambda: taken_mib * MIB)
    check_fits(reader, INFOS, SplitOptions(layout=layout, max_memory_bytes=least_mib * MIB))
    too_small = SplitOptions(layout=layout, max_memory_bytes=least_mib * MIB - 1)
    with pytest.raises(PlanError, match="a split takes about") as caught:
        check_fits(reader, INFOS, too_small)
    assert f"--max-memory {least_mib}MiB or more" in caught.value.hint


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["neuronc", "transformers-neuronx"])
def test_what_a_refusal_names_is_enough(tmp_path: Path, layout: str) -> None:
    """In a process of its own, with a checkpoint that is larger than that."""
    import json
    import re

    from safetensors.torch import save_file

    folder = tmp_path / "in"
    folder.mkdir()
    config = {"model_type": "llama", "hidden_size": 1024, "num_hidden_layers": 1, "head_dim": 64}
    config |= {"num_attention_heads": 16, "num_key_value_heads": 4, "intermediate_size": 64}
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 150_000}))
    shapes = {
        "embed_tokens": (150_000, 1024), "norm": (1024,), "layers.0.input_layernorm": (1024,),
        "layers.0.post_attention_layernorm": (1024,), "layers.0.self_attn.q_proj": (1024, 1024),
        "layers.0.self_attn.k_proj": (256, 1024), "layers.0.self_attn.v_proj": (256, 1024),
        "layers.0.self_attn.o_proj": (1024, 1024), "layers.0.mlp.gate_proj": (64, 1024),
        "layers.0.mlp.up_proj": (64, 1024), "layers.0.mlp.down_proj": (1024, 64),
    }  # fmt: skip
    tensors = {f"model.{n}.weight": torch.ones(s, dtype=torch.bfloat16) for n, s in shapes.items()}
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    if layout == "neuronc":
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        save_file(tensors, folder / "model.safetensors")

    def split(size: str) -> Any:
        argv = [sys.executable, "-m", "neuronc", "split", str(folder), "-o", str(tmp_path / "out")]
        argv += ["--layout", layout, "--max-memory", size, "--json", "--quiet"]
        return json.loads(subprocess.run(argv, capture_output=True, check=False).stdout)

    found = re.search(r"(\d+)MiB", split("1MiB")["error"]["hint"])
    assert found is not None
    told = split(f"{found[1]}MiB")
    assert told["error"] is None
    assert told["data"]["peak_rss_bytes"] <= int(found[1]) * MIB
