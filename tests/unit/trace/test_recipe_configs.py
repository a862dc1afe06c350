"""The configs beside the recipes are those of the published models."""

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest

from neuronc.checkpoint.config_only import declared_dtype, open_config_only
from neuronc.families.model_config import read_model_config
from neuronc.parallel.plan import plan_parallelism
from neuronc.trace.meta_model import parameter_shapes

CONFIGS = Path(__file__).parents[3] / "recipes" / "configs"
NUM_PARAMS = {
    "opt-6.7b": 6_658_473_984,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400,
}
"""What the model cards on the Hub count, tied heads once."""


@pytest.mark.parametrize(
    ("name", "tp", "dtype"),
    [("opt-6.7b", 2, "f16"), ("llama-3.1-8b", 8, "bf16"), ("llama-3.2-1b", 4, "bf16")],
)
def test_a_config_gives_the_published_model_and_can_be_split(
    name: str, tp: int, dtype: str
) -> None:
    found = open_config_only(str(CONFIGS / name))
    shapes = parameter_shapes(found.config)
    plan = plan_parallelism(read_model_config(found.config, source=name), shapes, tp)

    assert sum(map(prod, shapes.values())) == NUM_PARAMS[name]
    assert plan.heads.extra_q_heads == 0
    assert declared_dtype(found).name == dtype


def test_every_config_folder_is_covered() -> None:
    assert {folder.name for folder in CONFIGS.iterdir()} == NUM_PARAMS.keys()


@pytest.mark.parametrize(("name", "factor"), [("llama-3.1-8b", 8.0), ("llama-3.2-1b", 32.0)])
def test_positions_are_scaled_as_the_published_config_asks(name: str, factor: float) -> None:
    from transformers import LlamaConfig

    ours: dict[str, Any] = json.loads((CONFIGS / name / "config.json").read_text())
    as_published = LlamaConfig(
        rope_theta=500000.0,
        rope_scaling={
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    )
    fields = {key: value for key, value in ours.items() if key != "model_type"}

    assert LlamaConfig(**fields).rope_parameters == as_published.rope_parameters
