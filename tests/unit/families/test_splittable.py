"""Of every family that follows transformers' plan, ours covers transformers' own model."""

import warnings
from typing import Any

from neuronc.errors import InputError
from neuronc.families.find import file_of
from neuronc.families.model_config import ModelConfig, read_model_config
from neuronc.parallel.plan import plan_parallelism
from tests.unit.families.test_transformers_source import causal_model_types

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "vocab_size": 50,
    "pad_token_id": 0,
}
NOT_MADE_FROM_SIZES = {"cohere_compass_text"}
"""Their configuration wants more than sizes before transformers makes a model of it."""

USUAL = {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi"}
USUAL |= {"granite", "olmo", "smollm3", "starcoder2", "nemotron", "exaone4"}


def splittable_types() -> list[str]:
    found = []
    for model_type in causal_model_types():
        try:
            config = read_model_config({"model_type": model_type, **SIZES}, source="test")
        except InputError:  # no decoder with attention heads
            continue
        if not config.family.why_not and file_of(model_type) is None:
            found.append(model_type)
    return found


def model_shapes(model_type: str) -> tuple[ModelConfig, dict[str, tuple[int, ...]]]:
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        hf_config = CONFIG_MAPPING[model_type](**SIZES)
        model = AutoModelForCausalLM.from_config(hf_config)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    return read_model_config(hf_config.to_dict(), source="test"), shapes


def test_the_plan_covers_every_parameter_of_each_splittable_model() -> None:
    covered = set()
    for model_type in splittable_types():
        if model_type in NOT_MADE_FROM_SIZES:
            continue
        config, shapes = model_shapes(model_type)
        for tp in (1, 2, 3):
            assert plan_parallelism(config, shapes, tp).rules.keys() == shapes.keys(), model_type
        covered.add(model_type)

    assert covered >= USUAL
