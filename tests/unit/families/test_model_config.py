import re
from typing import Any

import pytest

from neuronc.errors import InputError
from neuronc.families.embedding import FIELD, Embedding, with_embedding
from neuronc.families.family import columns
from neuronc.families.model_config import read_model_config
from tests.tiny_models import TINY_LLAMA

LLAMA = {"model_type": "llama", **TINY_LLAMA}


def test_sizes_are_taken_from_the_config() -> None:
    config = read_model_config(LLAMA, source="test")

    assert (config.hidden_size, config.num_layers, config.intermediate_size) == (36, 2, 96)
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (9, 3, 8)
    assert (config.vocab_size, config.max_positions) == (128, 128)
    assert config.tie_word_embeddings
    assert config.eos_token_ids == (2,)
    assert config.family.splits["layers.*.self_attn.q_proj"] == columns("query")
    assert config.fixed_rope_positions is None


@pytest.mark.parametrize(
    ("fields", "positions"),
    [
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, 128),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, 128),
        (
            {"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 40}},
            40,
        ),
        (
            {"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 48},
            48,
        ),
        ({"rope_parameters": {"full": {"rope_type": "dynamic"}, "sliding": {}}}, 128),
        ({"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 40}}, None),
    ],
)
def test_frequencies_that_change_with_the_length_bound_it(
    fields: dict[str, Any], positions: int | None
) -> None:
    config = read_model_config({**LLAMA, **fields}, source="test")

    assert config.fixed_rope_positions == positions


def resolved_by_transformers(raw: dict[str, Any]) -> tuple[object, ...]:
    from transformers import CONFIG_MAPPING

    fields = {name: value for name, value in raw.items() if name != "model_type"}
    config = CONFIG_MAPPING[raw["model_type"]](**fields)
    eos = config.eos_token_id
    head_dim = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    return (
        config.hidden_size,
        config.num_attention_heads,
        getattr(config, "num_key_value_heads", config.num_attention_heads),
        head_dim,
        config.num_hidden_layers,
        config.max_position_embeddings,
        config.tie_word_embeddings,
        tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,),
    )


@pytest.mark.parametrize(
    "raw",
    [
        {"model_type": "llama"},
        {"model_type": "llama", "num_key_value_heads": None, "head_dim": None},
        {"model_type": "llama", "eos_token_id": [3, 4]},
        {"model_type": "llama", "eos_token_id": None, "tie_word_embeddings": True},
        {"model_type": "mistral"},
        {"model_type": "mistral", "head_dim": None},
        {"model_type": "gemma"},
        {"model_type": "qwen3", "num_attention_heads": 16, "num_key_value_heads": 8},
        {"model_type": "gpt2", "n_embd": 32, "n_head": 4},
        {"model_type": "gpt2", "hidden_size": 32, "num_attention_heads": 4, "n_layer": 3},
        {"model_type": "phi"},
        {"model_type": "starcoder2"},
    ],
    ids=str,
)
def test_fields_left_out_or_null_mean_what_transformers_makes_of_them(raw: dict[str, Any]) -> None:
    ours = read_model_config(raw, source="test")

    assert resolved_by_transformers(raw) == (
        ours.hidden_size,
        ours.num_heads,
        ours.num_kv_heads,
        ours.head_dim,
        ours.num_layers,
        ours.max_positions,
        ours.tie_word_embeddings,
        ours.eos_token_ids,
    )


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"hidden_size": 0}, "expected hidden_size to be a positive int, found 0"),
        ({"vocab_size": "128"}, "expected vocab_size to be a positive int, found '128'"),
        (
            {"num_hidden_layers": True},
            "expected num_hidden_layers to be a positive int, found True",
        ),
        ({"num_attention_heads": None}, "expected num_attention_heads to be a positive int"),
        (  # laying them out would take for ever
            {"num_attention_heads": 10**12, "num_key_value_heads": 10**12},
            "expected num_attention_heads to be at most 65536, found 1000000000000",
        ),
        ({"head_dim": 8.0}, "expected head_dim to be a positive int, found 8.0"),
        ({"max_position_embeddings": "long"}, "expected max_position_embeddings"),
        ({"eos_token_id": "</s>"}, "expected eos_token_id to be an int or a list of ints"),
        (
            {"num_key_value_heads": 2},
            "expected num_key_value_heads to be a divisor of num_attention_heads=9, found 2",
        ),
    ],
)
def test_an_unusable_size_is_refused_by_name(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"config of model/x: {fault}")):
        read_model_config({**LLAMA, **fields}, source="model/x")


def test_a_config_without_model_type_is_refused() -> None:
    with pytest.raises(InputError, match="config of test has no model_type"):
        read_model_config({"hidden_size": 4}, source="test")


@pytest.mark.parametrize(
    ("raw", "message", "way_out"),
    [
        ({"model_type": "bert"}, r"an encoder \(bert\); it cannot generate", "--task embed"),
        ({"model_type": "roberta", "is_decoder": False}, "an encoder", "--task embed"),
        ({"model_type": "electra"}, "none of the encoders", "--tracer torch-neuronx"),
        ({"model_type": "bart"}, "an encoder-decoder", "--tracer torch-neuronx"),
        ({"model_type": "mamba"}, r"\(mamba\) keeps other state", "with a KV cache"),
        ({"model_type": "xlstm"}, r"\(xlstm\) keeps other state", "with a KV cache"),
        (
            {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}},
            r"multimodal \(gemma3\)",
            "its text model (gemma3_text)",
        ),
        ({"model_type": "llama4", "text_config": {}}, "multimodal", "text_config"),
        (with_embedding({"model_type": "electra"}, Embedding()), "none of the encoders", "bert"),
        (with_embedding({"model_type": "llama"}, Embedding()), "none of the encoders", "bert"),
        (
            {"model_type": "bert", FIELD: {"pooling": "max", "normalize": True}},
            "cannot be",
            "compile the checkpoint again",
        ),
    ],
)
def test_a_model_for_another_task_is_refused(
    raw: dict[str, Any], message: str, way_out: str
) -> None:
    with pytest.raises(InputError, match=message) as told:
        read_model_config(raw, source="model/x")
    assert way_out in (told.value.hint or "")


def test_a_family_without_attention_heads_is_refused() -> None:
    with pytest.raises(InputError, match="expected num_attention_heads to be a positive int"):
        read_model_config({"model_type": "blt"}, source="test")


def test_sizes_that_differ_by_layer_are_not_one_number() -> None:
    config = read_model_config({**LLAMA, "intermediate_size": [96, 64]}, source="test")

    assert config.intermediate_size is None
