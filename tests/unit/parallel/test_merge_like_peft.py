"""Merging equals PEFT's own ``merge_and_unload``, parameter by parameter."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuronc.artifact.weights import open_for
from neuronc.recipe import Recipe
from tests.tiny_adapters import Arrays, make_adapter, merged_by_peft
from tests.tiny_models import make_checkpoint

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
# What PEFT and transformers tell each other is not about neuronc.
pytestmark = pytest.mark.filterwarnings("ignore")


def merged_by_us(checkpoint: Path, adapter: Path) -> Arrays:
    opened = open_for(Recipe(checkpoint=str(checkpoint), adapter=str(adapter)))
    return {name: np.asarray(opened.reader.read(name)) for name in opened.tensors}


def assert_as_peft(checkpoint: Path, adapter: Path, *, num_changed: int) -> None:
    """In reduced precision a sum in another order may round the other way, once in a while."""
    untouched = {
        name: np.asarray(array)
        for name, array in _all(open_for(Recipe(checkpoint=str(checkpoint)))).items()
    }
    ours, truth = merged_by_us(checkpoint, adapter), merged_by_peft(checkpoint, adapter)
    assert ours.keys() == truth.keys()
    for name, array in ours.items():
        assert array.dtype == untouched[name].dtype
        found = array.astype(np.float32)
        if array.dtype == np.float32:
            np.testing.assert_allclose(found, truth[name], rtol=1e-5, atol=1e-6, err_msg=name)
        else:
            assert (found == truth[name]).mean() > 0.99, name
            np.testing.assert_allclose(found, truth[name], rtol=2.0**-7, atol=1e-6, err_msg=name)
    changed = [name for name in ours if not np.array_equal(ours[name], untouched[name])]
    assert len(changed) == num_changed


def _all(opened: Any) -> Arrays:
    return {name: opened.reader.read(name) for name in opened.tensors}


@pytest.mark.parametrize(
    ("config", "num_changed"),
    [
        ({"r": 4, "lora_alpha": 6, "target_modules": ATTENTION}, 8),
        ({"r": 4, "lora_alpha": 6, "target_modules": ["q_proj"], "use_rslora": True}, 2),
        (
            {
                "r": 4,
                "lora_alpha": 8,
                "target_modules": [*ATTENTION, "down_proj"],
                "rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.down_proj": 6},
                "alpha_pattern": {"down_proj": 3, "model.layers.0.self_attn.v_proj": 5},
            },
            10,
        ),
        ({"r": 2, "init_lora_weights": "orthogonal", "target_modules": ["up_proj"]}, 2),
        ({"r": 2, "layers_to_transform": [1], "target_modules": ["up_proj"]}, 1),
    ],
)
def test_scales_are_those_of_peft(
    tiny_llama: Path, tmp_path: Path, config: dict[str, Any], num_changed: int
) -> None:
    adapter = make_adapter(tiny_llama, tmp_path / "adapter", **config)

    assert_as_peft(tiny_llama, adapter, num_changed=num_changed)


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_reduced_precision_is_rounded_once(tmp_path: Path, dtype: str) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", dtype=dtype, shards=2, tokenizer=False)
    adapter = make_adapter(checkpoint, tmp_path / "adapter", r=3, target_modules=ATTENTION)

    assert_as_peft(checkpoint, adapter, num_changed=8)


def test_weights_of_conv1d_are_in_out(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", family="gpt2", tokenizer=False)
    modules = ["c_attn", "c_proj", "c_fc"]  # attn.c_proj is square: shapes alone do not tell
    adapter = make_adapter(checkpoint, tmp_path / "adapter", r=4, target_modules=modules)

    assert_as_peft(checkpoint, adapter, num_changed=8)


def test_the_head_of_a_conv1d_family_is_a_linear_layer(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(
        tmp_path / "model", family="gpt2", vocab_size=32, tie_word_embeddings=False, tokenizer=False
    )
    modules = ["c_attn", "lm_head"]
    adapter = make_adapter(checkpoint, tmp_path / "adapter", r=4, target_modules=modules)

    assert_as_peft(checkpoint, adapter, num_changed=3)


def test_embedding_and_head_of_an_untied_model(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", tie_word_embeddings=False, tokenizer=False)
    modules = ["embed_tokens", "lm_head", "q_proj"]
    adapter = make_adapter(checkpoint, tmp_path / "adapter", r=4, target_modules=modules)

    assert_as_peft(checkpoint, adapter, num_changed=4)


def test_modules_to_save_take_the_place_of_the_models(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", tie_word_embeddings=False, tokenizer=False)
    adapter = make_adapter(
        checkpoint,
        tmp_path / "adapter",
        target_modules=["q_proj"],
        modules_to_save=["lm_head", "embed_tokens", "input_layernorm"],
    )

    assert_as_peft(checkpoint, adapter, num_changed=2 + 2 + 2)


@pytest.mark.parametrize(("bias", "num_changed"), [("all", 2 + 2 * 8 + 1), ("lora_only", 2 + 2)])
def test_trained_biases_take_the_place_of_the_models(
    tmp_path: Path, bias: str, num_changed: int
) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", family="opt", tokenizer=False)
    adapter = make_adapter(checkpoint, tmp_path / "adapter", target_modules=["fc1"], bias=bias)

    assert_as_peft(checkpoint, adapter, num_changed=num_changed)


def test_biases_of_the_factors_are_scaled_and_added(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", family="opt", tokenizer=False)
    adapter = make_adapter(
        checkpoint, tmp_path / "adapter", r=2, lora_alpha=3, target_modules=["fc1"], lora_bias=True
    )

    assert_as_peft(checkpoint, adapter, num_changed=4)
