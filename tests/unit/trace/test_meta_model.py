"""Shapes from a config alone are those of the checkpoint that the config belongs to."""

from pathlib import Path
from typing import Any

import pytest

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.errors import InputError
from neuronc.families.model_config import read_model_config
from neuronc.parallel.model_tensors import model_tensors
from neuronc.trace.meta_model import parameter_shapes
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


def test_a_family_that_is_saved_under_other_names_is_refused() -> None:
    config = {"model_type": "mixtral", **TINY_LLAMA, "num_local_experts": 2}
    with pytest.raises(InputError, match="'mixtral' have other tensors than the model"):
        parameter_shapes(config)
