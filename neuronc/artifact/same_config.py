"""Whether two config.json describe the same program, whatever else they say."""

from collections.abc import Mapping
from typing import Any

from neuronc.families.model_config import ModelConfig
from neuronc.families.transformers_source import read_family_source

_ABOUT_THE_FILE = (
    "_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version",
    "model_max_length", "unsloth_fixed", "unsloth_version", "use_cache",
)  # fmt: skip
_IN_TRAINING = (
    "attention_dropout", "attention_probs_dropout_prob", "attn_pdrop", "classifier_dropout",
    "dropout", "embd_pdrop", "embedding_dropout", "finetuning_task", "gradient_checkpointing",
    "hidden_dropout", "hidden_dropout_prob", "id2label", "initializer_range", "label2id",
    "layerdrop", "mlp_dropout", "output_router_logits", "problem_type", "resid_pdrop",
    "router_aux_loss_coef", "router_z_loss_coef", "summary_first_dropout",
)  # fmt: skip
_IN_GENERATING = (
    "bad_words_ids", "bos_token_id", "do_sample", "early_stopping", "eos_token_id",
    "forced_bos_token_id", "forced_eos_token_id", "length_penalty", "max_length", "max_new_tokens",
    "min_length", "min_new_tokens", "no_repeat_ngram_size", "num_beams", "num_return_sequences",
    "repetition_penalty", "temperature", "top_k", "top_p",
)  # fmt: skip
_WITHOUT_EFFECT = frozenset((*_ABOUT_THE_FILE, *_IN_TRAINING, *_IN_GENERATING))


def without_effect(*, is_embedding: bool) -> frozenset[str]:
    """Fields that no program depends on: what a model is called, how it is trained and sampled from.

    An encoder's positions may be counted from its padding.
    """
    return _WITHOUT_EFFECT if is_embedding else _WITHOUT_EFFECT | {"pad_token_id"}


def first_difference(one: ModelConfig, other: ModelConfig) -> str | None:
    """The first field, with both values, that makes another program; None if there is none.

    What a file leaves out has the default of transformers' configuration class, and fields that
    transformers 5 writes in another place than 4 are compared by what they mean. A field that is
    not known counts.
    """
    theirs, ours = _meaning(one), _meaning(other)
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            return f"{name} is {_shown(theirs.get(name))}, there {_shown(ours.get(name))}"
    return None


def _shown(value: object) -> str:
    return repr(value)[:120]


def _meaning(config: ModelConfig) -> dict[str, Any]:
    defaults = read_family_source(config.model_type).defaults
    aliases: Mapping[str, str] = defaults.get("attribute_map") or {}
    raw = {aliases.get(name, name): value for name, value in config.raw.items()}
    known = {
        name: value
        for name, value in defaults.items()
        if isinstance(value, str | int | float | list | tuple)
        and not name.startswith("base_model_")
    }
    ignored = without_effect(is_embedding=bool(config.embedding))
    fields = {**known, **raw, **_rope(raw, defaults)}
    fields.update(
        tie_word_embeddings=config.tie_word_embeddings,
        head_dim=config.head_dim,
        layer_types=_layer_types(fields),
    )
    moved = ("rope_theta", "rope_scaling", "default_theta", "keys_to_ignore_at_inference")
    return {
        name: _plain(value)
        for name, value in fields.items()
        if name not in ignored and name not in moved and value is not None
    }


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _rope(raw: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary frequencies as transformers 5 writes them, also where 4 wrote the file."""
    found = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    theta = raw.get("rope_theta", defaults.get("rope_theta", defaults.get("default_theta")))
    if not isinstance(found, dict) or (not found and theta is None):
        return {}
    if any(isinstance(value, dict) for value in found.values()):  # one for each type of layer
        return {"rope_parameters": found}
    rope = {"rope_type": found.get("type", "default"), "rope_theta": theta, **found}
    rope.pop("type", None)
    partial = rope.pop("partial_rotary_factor", None)
    moved = {} if partial is None else {"partial_rotary_factor": partial}
    return {"rope_parameters": rope, **moved}


def _layer_types(fields: Mapping[str, Any]) -> Any:
    """None where all layers are alike, which files of older versions do not say."""
    found = fields.get("layer_types")
    slides = fields.get("sliding_window") is not None
    if not slides or fields.get("use_sliding_window") is False:
        is_full = isinstance(found, list) and set(found) == {"full_attention"}
        return None if is_full else found
    return found
