"""OPT's plan of ours covers transformers' own models, and nothing but them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from neuronc.errors import InputError
from neuronc.families.model_config import ModelConfig, read_model_config
from neuronc.parallel.plan import plan_parallelism
from tests.tiny_models import TINY_OPT, make_checkpoint
from tests.unit.parallel.splitting import split

VARIANTS: dict[str, dict[str, Any]] = {
    "as published": {},
    "as opt-350m": {"word_embed_proj_dim": 16, "do_layer_norm_before": False},
    "untied": {"tie_word_embeddings": False},
    "without biases": {"enable_bias": False},
    "without learned norms": {"layer_norm_elementwise_affine": False},
    "without a last norm": {"_remove_final_layer_norm": True},
}
LAYER = "model.decoder.layers.1"
POSITIONS = "model.decoder.embed_positions.weight"


def opt_model(**fields: Any) -> tuple[ModelConfig, dict[str, tuple[int, ...]]]:
    import torch
    from transformers import OPTConfig, OPTForCausalLM

    with torch.device("meta"):
        model = OPTForCausalLM(OPTConfig(**{**TINY_OPT, **fields}))
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    return read_model_config(model.config.to_dict(), source="test"), shapes


@pytest.fixture(scope="module")
def tiny_opt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("opt") / "tiny", family="opt")


@pytest.mark.parametrize("tp", [1, 2, 3, 4])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_has_a_rule(variant: str, tp: int) -> None:
    config, shapes = opt_model(**VARIANTS[variant])

    rules = plan_parallelism(config, shapes, tp).rules

    assert {name: rule.shape for name, rule in rules.items()} == shapes


def test_rules_are_those_of_the_modules() -> None:
    config, shapes = opt_model()

    rules = plan_parallelism(config, shapes, 2).rules

    assert rules["model.decoder.embed_tokens.weight"].role == "vocab_embedding"
    assert rules[POSITIONS].role == rules[f"{LAYER}.final_layer_norm.bias"].role == "replicate"
    assert rules[f"{LAYER}.self_attn.k_proj.bias"].rank_shape == (16,)
    assert rules[f"{LAYER}.self_attn.out_proj.weight"].rank_shape == (32, 16)
    assert rules[f"{LAYER}.fc1.bias"].rank_shape == (48,)
    assert rules[f"{LAYER}.fc2.weight"].role == "row"
    assert rules[f"{LAYER}.self_attn.out_proj.bias"].role == "replicate"
    assert rules[f"{LAYER}.fc2.bias"].role == "replicate"


@pytest.mark.parametrize(
    "name",
    [f"{LAYER}.fc3.weight", "model.decoder.project_in.weight", f"{LAYER}.self_attn.fc1.bias"],
)
@pytest.mark.parametrize("tp", [1, 2])
def test_a_parameter_that_the_config_does_not_give_is_refused_by_name(name: str, tp: int) -> None:
    config, shapes = opt_model()

    with pytest.raises(InputError, match=f"no sharding rule of family 'opt' matches '{name}'"):
        plan_parallelism(config, {**shapes, name: (32, 32)}, tp)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (POSITIONS, (64, 32)),
        ("model.decoder.embed_tokens.weight", (128, 16)),
        (f"{LAYER}.fc1.weight", (128, 32)),
    ],
)
def test_a_shape_that_the_config_does_not_give_is_refused(
    name: str, found: tuple[int, ...]
) -> None:
    config, shapes = opt_model()

    with pytest.raises(InputError, match=f"'{name}' has shape"):
        plan_parallelism(config, {**shapes, name: found}, 2)


@pytest.mark.parametrize("lost", ["embed_positions.weight", "final_layer_norm.bias"])
def test_a_checkpoint_without_a_part_outside_the_layers_is_refused(
    tiny_opt: Path, tmp_path: Path, lost: str
) -> None:
    folder = rewritten(tiny_opt, tmp_path / "in", lambda n: None if n.endswith(f"er.{lost}") else n)

    with pytest.raises(InputError, match=f"lacks 'decoder.{lost}'"):
        split(folder, tmp_path / "out")


def test_a_checkpoint_with_the_base_models_names_splits_to_the_same_files(
    tiny_opt: Path, tmp_path: Path
) -> None:
    folder = rewritten(tiny_opt, tmp_path / "in", lambda name: name.removeprefix("model."))

    split(tiny_opt, tmp_path / "full")
    split(folder, tmp_path / "base")

    assert "decoder.layers.0.fc1.bias" in load_file(folder / "model.safetensors")
    for rank in (0, 1):
        full, base = (
            load_file(tmp_path / p / f"rank-{rank}.safetensors") for p in ("full", "base")
        )
        assert full.keys() == base.keys()
        assert all(np.array_equal(full[name], base[name]) for name in full)


def rewritten(source: Path, folder: Path, rename: Any) -> Path:
    """A copy of checkpoint ``source`` with its tensors renamed, or (None) dropped."""
    folder.mkdir()
    (folder / "config.json").write_bytes((source / "config.json").read_bytes())
    tensors = {rename(n): array for n, array in load_file(source / "model.safetensors").items()}
    tensors.pop(None, None)
    save_file(tensors, folder / "model.safetensors")
    return folder
