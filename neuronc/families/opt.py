"""OPT: learned positions, biases everywhere, and in opt-350m an embedding narrower than the model.

Names and shapes are those of transformers' ``models/opt/modeling_opt.py``.
"""

from typing import TYPE_CHECKING

from neuronc.families.own_plan import OwnPlan

if TYPE_CHECKING:
    from neuronc.families.model_config import ModelConfig

_POSITION_OFFSET = 2  # the first two rows of the table stood for padding in fairseq


def _replicated(config: "ModelConfig") -> dict[str, tuple[int, ...]]:
    hidden, embedding = config.hidden_size, config.embedding_size
    rows = (config.max_positions or 0) + _POSITION_OFFSET
    shapes: dict[str, tuple[int, ...]] = {"decoder.embed_positions.weight": (rows, hidden)}
    if embedding != hidden:
        shapes["decoder.project_in.weight"] = (hidden, embedding)
        shapes["decoder.project_out.weight"] = (embedding, hidden)
    if _has_final_norm(config):
        shapes["decoder.final_layer_norm.weight"] = (hidden,)
        shapes["decoder.final_layer_norm.bias"] = (hidden,)
    return shapes


def _has_final_norm(config: "ModelConfig") -> bool:
    """Models with the norm after attention (opt-350m) have none, nor have some old fine-tunes."""
    raw = config.raw
    kept = raw.get("do_layer_norm_before", True) and not raw.get("_remove_final_layer_norm", False)
    return bool(kept and raw.get("layer_norm_elementwise_affine", True))


PLAN = OwnPlan(
    linears={
        "decoder.layers.*.self_attn.q_proj": ("colwise", "query"),
        "decoder.layers.*.self_attn.k_proj": ("colwise", "kv"),
        "decoder.layers.*.self_attn.v_proj": ("colwise", "kv"),
        "decoder.layers.*.self_attn.out_proj": ("rowwise", "query"),
        "decoder.layers.*.fc1": ("colwise", "feature"),
        "decoder.layers.*.fc2": ("rowwise", "feature"),
    },
    replicated=_replicated,
    query_head_counts=("decoder.layers.*.self_attn.num_heads",),
    size_fields={
        "intermediate_size": "ffn_dim",
        "embedding_size": "word_embed_proj_dim",
        "num_key_value_heads": "num_attention_heads",
    },
    base_prefix="model.",
)
