"""Shapes from a config alone are those of the checkpoint that the config belongs to."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.errors import InputError
from neuronc.families.model_config import read_model_config
from neuronc.parallel.model_tensors import model_tensors
from neuronc.trace.meta_model import (
    build_meta_model,
    build_model,
    parameter_shapes,
    parameters_on_meta,
)
from tests.tiny_families import TINY_FAMILIES
from tests.tiny_models import TINY_LLAMA, make_checkpoint

LLAMA = {"model_type": "llama", **TINY_LLAMA}


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma", "opt", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
def test_shapes_are_those_of_a_saved_checkpoint_in_its_order(
    tmp_path: Path, family: str, tied: bool
) -> None:
    folder = make_checkpoint(
        tmp_path / "model", family=family, tokenizer=False, tie_word_embeddings=tied
    )
    checkpoint = open_checkpoint(str(folder))
    config = read_model_config(checkpoint.config, source="test")
    saved = {name: info.shape for name, info in model_tensors(checkpoint, config).items()}

    assert list(parameter_shapes(checkpoint.config).items()) == list(saved.items())


@pytest.mark.parametrize(
    "fields",
    [
        {"hidden_act": "no such function"},
        {"hidden_size": "wide"},
        {"rope_parameters": {"rope_type": "no such type"}},
        {"model_type": "clip"},
        {"model_type": "no such model"},
    ],
)
def test_a_config_that_makes_no_model_is_exit_3(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="transformers makes no causal LM of this") as caught:
        parameter_shapes({**LLAMA, **fields})
    assert caught.value.exit_code == 3


def test_stacked_experts_and_saved_buffers_are_among_the_shapes() -> None:
    config = AutoConfig.for_model("deepseek_v3", **TINY_FAMILIES["deepseek_v3"][1])

    shapes = parameter_shapes(config.to_dict())

    assert shapes["model.layers.1.mlp.experts.down_proj"] == (8, 48, 18)
    assert shapes["model.layers.1.mlp.gate.e_score_correction_bias"] == (8,)
    assert "model.rotary_emb.inv_freq" not in shapes


class LargestReal(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the largest number of elements of any tensor that has memory."""

    largest = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.device.type != "meta":
                self.largest = max(self.largest, leaf.numel())
        return result


LLAMA4 = {
    "model_type": "llama4_text",
    **TINY_LLAMA,
    "intermediate_size_mlp": 96,
    "num_local_experts": 4,
    "num_experts_per_tok": 1,
    "vocab_size": 5000,
}


@pytest.mark.parametrize("config", [LLAMA4, {**LLAMA, "vocab_size": 5000}])
def test_no_parameter_takes_memory_while_a_model_is_made(config: dict[str, Any]) -> None:
    with LargestReal() as seen:  # type: ignore[no-untyped-call]
        build_meta_model(config, dtype=torch.float32, attention="eager")

    assert seen.largest < 2000


@pytest.mark.parametrize("family", ["apertus", "gptj", "gemma2", "deepseek_v3", "bloom"])
def test_buffers_have_the_values_that_transformers_begins_with(family: str) -> None:
    fields = TINY_FAMILIES.get(family, (family, TINY_LLAMA))[1]
    config = AutoConfig.for_model(family, **fields).to_dict()
    with parameters_on_meta():
        expected = dict(build_model(config, dtype=torch.float32, attention="eager").named_buffers())

    model = build_meta_model(config, dtype=torch.float32, attention="eager")

    found = dict(model.named_buffers())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
