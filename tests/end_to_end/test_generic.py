"""Families that nobody described: checked on a tiny clone first, then built like any other."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from neuronc.checkpoint.safetensors_reader import read_safetensors_header
from neuronc.errors import InputError, VerificationError
from neuronc.families.model_config import read_model_config
from neuronc.pipeline import build
from neuronc.recipe import Recipe
from neuronc.targets.neuron.settings import CompileOptions
from neuronc.verify import clone
from neuronc.verify.clone import check_clone, needs_clone, require_clone_matches
from neuronc.verify.tiny_config import tiny_config
from tests.tiny_models import TINY_LLAMA, make_checkpoint


@pytest.fixture(scope="module")
def glm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("glm") / "tiny", family="glm")


def config_of(checkpoint: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((checkpoint / "config.json").read_text())
    return config


@pytest.mark.slow
def test_a_family_without_a_file_is_built_over_two_ranks(glm: Path, tmp_path: Path) -> None:
    recipe = Recipe(checkpoint=str(glm), tp=2, max_length=32, prefill_buckets=(8,))

    built = build(recipe, tmp_path / "artifact")

    assert built.manifest.verification is not None
    assert built.manifest.verification["passed"]
    assert built.split is not None
    assert "gather" in {tensor.rule.role for tensor in built.split.tensors.values()}


@pytest.mark.slow
def test_experts_of_a_family_without_a_file_are_put_together(tmp_path: Path) -> None:
    """Its checkpoints have every expert's matrices in tensors of their own; the model has stacks."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    config = AutoConfig.for_model(
        "glm4_moe",
        **sizes,
        **experts,
        intermediate_size=48,
        num_hidden_layers=2,
        first_k_dense_replace=1,
        vocab_size=128,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "checkpoint")
    names = read_safetensors_header(tmp_path / "checkpoint" / "model.safetensors")
    assert "model.layers.1.mlp.experts.3.up_proj.weight" in names
    recipe = Recipe(
        checkpoint=str(tmp_path / "checkpoint"), tp=2, max_length=16, prefill_buckets=(8,)
    )

    built = build(recipe, tmp_path / "artifact")

    assert built.split is not None
    assert "model.layers.1.mlp.experts.gate_up_proj" in built.split.tensors
    assert (built.manifest.verification or {})["passed"]


def test_a_clone_that_differs_ends_the_build_before_anything_is_written(
    glm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"made": True, "error": 0.5, "phase": "decode", "layer": "model.layers.1", "reason": ""}
    code = f"import json; print(json.dumps({found!r}))"
    monkeypatch.setattr(clone, "_COMMAND", ("-c", code))
    recipe = Recipe(checkpoint=str(glm), tp=2, max_length=32, prefill_buckets=(8,))

    with pytest.raises(
        VerificationError, match=r"in decode, from layer 'model\.layers\.1' on"
    ) as told:
        build(recipe, tmp_path / "artifact")

    assert told.value.exit_code == 6
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", [{}, {"lower_only": True, "config_only": True}])
def test_a_family_that_transformers_describes_and_no_test_covers_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    checkpoint = make_checkpoint(tmp_path / "arcee", family="arcee")
    assert read_model_config(config_of(checkpoint), source="test").family.why_not == ""
    monkeypatch.setattr(clone, "_COMMAND", ("-c", "raise SystemExit('it was asked for')"))
    target = "inf2" if how else "cpu"
    recipe = Recipe(checkpoint=str(checkpoint), tp=2, max_length=32, target=target)

    with pytest.raises(VerificationError, match="it was asked for"):
        build(recipe, tmp_path / "artifact", options=CompileOptions(**how))


def test_a_family_that_tests_cover_needs_no_clone() -> None:
    config = {"model_type": "llama", **TINY_LLAMA}
    assert not needs_clone(read_model_config(config, source="test"))


@pytest.mark.parametrize("is_verified_later", [True, False])
def test_without_a_clone_only_what_is_verified_later_goes_on(
    glm: Path, monkeypatch: pytest.MonkeyPatch, is_verified_later: bool
) -> None:
    code = "import json; print(json.dumps({'made': False, 'reason': 'too small'}))"
    monkeypatch.setattr(clone, "_COMMAND", ("-c", code))
    config = read_model_config(config_of(glm), source="test")

    with (
        nullcontext()
        if is_verified_later
        else pytest.raises(VerificationError, match="no tiny random clone of test can")
    ):
        require_clone_matches(config, tp=2, name="test", is_verified_later=is_verified_later)


@pytest.mark.slow
def test_what_the_clone_refuses_is_refused(glm: Path) -> None:
    config = read_model_config({**config_of(glm), "hidden_act": "none such"}, source="test")

    with pytest.raises(InputError, match="a tiny random clone of test: transformers makes no"):
        require_clone_matches(config, tp=2, name="test")


def test_a_config_that_cannot_be_shrunk_has_no_clone(
    glm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shrunk(config: Any) -> dict[str, Any]:
        return {**config, "hidden_act": "none such"}

    monkeypatch.setattr(clone, "tiny_config", shrunk)

    found = check_clone(config_of(glm), tp=2)

    assert not found.made
    assert "none such" in found.reason


def test_a_clone_whose_process_dies_is_told(glm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clone, "_COMMAND", ("-c", "raise SystemExit('out of luck')"))
    config = read_model_config(config_of(glm), source="test")

    with pytest.raises(VerificationError, match="cannot be run: out of luck"):
        require_clone_matches(config, tp=2, name="test")


def scale(layer: int) -> Callable[[Any], None]:
    def damage(model: Any) -> None:
        attention = model.model.layers[layer].self_attn
        attention.scaling = attention.scaling * 1.5

    return damage


@pytest.mark.parametrize(
    ("damage", "layer"),
    [(scale(0), "model.layers.0"), (scale(1), "model.layers.1")],
)
@pytest.mark.parametrize("tp", [1, 2])
def test_the_first_layer_that_differs_is_named(
    glm: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Any], None],
    layer: str,
    tp: int,
) -> None:
    from neuronc.trace.rank_model import build_rank_model

    def damaged(*args: Any) -> Any:
        model = build_rank_model(*args)
        damage(model)
        return model

    monkeypatch.setattr("neuronc.trace.eager_ranks.build_rank_model", damaged)
    found = check_clone(config_of(glm), tp=tp)

    assert found.phase == "prefill"
    assert found.layer == layer
    assert found.error > 1e-3


def test_the_clone_of_a_sound_family_matches(glm: Path) -> None:
    found = check_clone(config_of(glm), tp=3)

    assert found.made
    assert found.phase == ""
    assert 0 < found.error < clone.TOLERANCE


def test_a_tiny_config_keeps_switches_and_shrinks_sizes() -> None:
    config = {
        "hidden_size": 8192,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "intermediate_size": 28672,
        "num_hidden_layers": 4,
        "vocab_size": 128256,
        "layer_types": ["full", "full", "sliding", "full"],
        "sliding_window": 4096,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"},
        "vision": {"hidden_size": 1024, "num_heads": 16},
    }

    tiny = tiny_config(config)

    assert tiny == {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "vocab_size": 128,
        "layer_types": ["full", "sliding"],
        "sliding_window": 8,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"},
        "vision": {"hidden_size": 64, "num_heads": 4},
    }
