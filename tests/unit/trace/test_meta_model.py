"""Shapes from a config alone are those of the checkpoint that the config belongs to."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.errors import InputError
from neuronc.families.model_config import read_model_config
from neuronc.parallel.model_tensors import model_tensors
from neuronc.trace.meta_model import parameter_shapes
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
