"""The plan's arithmetic, proven in f64: what the ranks compute adds up to what the model computes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from neuronc.families.model_config import ModelConfig
from neuronc.parallel.plan import ParallelPlan, plan_parallelism
from neuronc.parallel.shards import cut_shard
from tests.unit.parallel.decoder_shapes import decoder_shapes, make_config

Array = np.ndarray[Any, Any]
HEAD_DIM = 4


def small_config(heads: int, kv_heads: int, **fields: Any) -> ModelConfig:
    return make_config(
        hidden_size=20,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=HEAD_DIM,
        intermediate_size=60,
        num_hidden_layers=1,
        vocab_size=23,
        **fields,
    )


def random_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def rank_weights(weights: Mapping[str, Array], plan: ParallelPlan, rank: int) -> dict[str, Array]:
    return {name: cut_shard(weights[name], rule, rank) for name, rule in plan.rules.items()}


def linear(x_SH: Array, weights: Mapping[str, Array], module: str) -> Array:
    name = f"model.layers.0.{module}"
    return x_SH @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0)


def normed(heads_KGSD: Array, weights: Mapping[str, Array], name: str) -> Array:
    scale = weights.get(f"model.layers.0.self_attn.{name}.weight")
    if scale is None:
        return heads_KGSD
    mean_square = (heads_KGSD**2).mean(-1, keepdims=True)
    scaled: Array = heads_KGSD / np.sqrt(mean_square + 1e-6) * scale
    return scaled


def attention(x_SH: Array, weights: Mapping[str, Array], q_per_kv: int) -> Array:
    """Causal attention of the heads that ``weights`` hold, through its output projection."""
    tokens = len(x_SH)

    def heads(module: str, group: int) -> Array:
        flat = linear(x_SH, weights, f"self_attn.{module}_proj")
        return flat.reshape(tokens, -1, group, HEAD_DIM).transpose(1, 2, 0, 3)

    query = normed(heads("q", q_per_kv), weights, "q_norm")
    key = normed(heads("k", 1), weights, "k_norm")
    scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(HEAD_DIM)
    scores += np.triu(np.full((tokens, tokens), -np.inf), k=1)
    odds = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = odds / odds.sum(-1, keepdims=True) @ heads("v", 1)
    flat = mixed.transpose(2, 0, 1, 3).reshape(tokens, -1)
    return np.asarray(flat @ weights["model.layers.0.self_attn.o_proj.weight"].T)


def mlp(x_SH: Array, weights: Mapping[str, Array]) -> Array:
    gate = linear(x_SH, weights, "mlp.gate_proj")
    features = gate / (1 + np.exp(-gate)) * linear(x_SH, weights, "mlp.up_proj")
    return np.asarray(features @ weights["model.layers.0.mlp.down_proj.weight"].T)


HEADS_AND_RANKS = [
    (9, 3, 2),  # padded queries, one empty KV slot
    (9, 3, 4),  # a rank with nothing but padding
    (9, 3, 6),  # padding within a group, replicated KV heads
    (8, 2, 4),  # replicated KV heads
    (6, 1, 3),  # one KV head for all
    (5, 5, 3),  # no sharing, padded
    (4, 2, 2),  # an even cut
]


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize(("heads", "kv_heads", "tp"), HEADS_AND_RANKS)
def test_a_layer_is_the_sum_over_its_ranks(family: str, heads: int, kv_heads: int, tp: int) -> None:
    config = small_config(heads, kv_heads, model_type=family)
    projections = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    shapes = decoder_shapes(
        config,
        bias=(*projections, "mlp.up_proj") if family == "qwen2" else (),
        norms=("self_attn.q_norm", "self_attn.k_norm") if family == "qwen3" else (),
    )
    weights = random_weights(shapes)
    plan = plan_parallelism(config, shapes, tp)
    x_SH = np.random.default_rng(1).normal(size=(5, config.hidden_size))

    shards = [rank_weights(weights, plan, rank) for rank in range(tp)]
    attended = sum(attention(x_SH, shard, plan.heads.q_per_kv) for shard in shards)
    expanded = sum(mlp(x_SH, shard) for shard in shards)

    whole = attention(x_SH, weights, heads // kv_heads)
    np.testing.assert_allclose(attended, whole, rtol=0, atol=1e-13 * np.abs(whole).max())
    whole = mlp(x_SH, weights)
    np.testing.assert_allclose(expanded, whole, rtol=0, atol=1e-13 * np.abs(whole).max())


@pytest.mark.parametrize("tp", [2, 3, 4])
def test_embedding_is_a_sum_and_the_head_a_row_of_parts(tp: int) -> None:
    config = small_config(4, 2, tie_word_embeddings=False)
    shapes = decoder_shapes(config)
    weights = random_weights(shapes)
    plan = plan_parallelism(config, shapes, tp)
    token_ids = np.arange(config.vocab_size)
    x_SH = np.random.default_rng(1).normal(size=(5, config.hidden_size))

    looked_up, parts = np.zeros((config.vocab_size, config.hidden_size)), []
    for rank in range(tp):
        shard = rank_weights(weights, plan, rank)
        local = token_ids - rank * plan.vocab_per_rank
        mine = (local >= 0) & (local < plan.vocab_per_rank)
        looked_up[mine] += shard["model.embed_tokens.weight"][local[mine]]
        parts.append(x_SH @ shard["lm_head.weight"].T)

    assert np.array_equal(looked_up, weights["model.embed_tokens.weight"])
    logits = np.concatenate(parts, axis=1)[:, : config.vocab_size]
    np.testing.assert_allclose(logits, x_SH @ weights["lm_head.weight"].T, rtol=1e-13, atol=1e-13)


def test_the_proof_notices_two_ranks_that_hold_each_others_output_columns() -> None:
    config = small_config(4, 2)
    shapes = decoder_shapes(config)
    weights = random_weights(shapes)
    plan = plan_parallelism(config, shapes, 2)
    x_SH = np.random.default_rng(1).normal(size=(5, config.hidden_size))
    one, other = (rank_weights(weights, plan, rank) for rank in range(2))

    name = "model.layers.0.self_attn.o_proj.weight"
    one[name], other[name] = other[name], one[name]
    swapped = attention(x_SH, one, 2) + attention(x_SH, other, 2)

    assert not np.allclose(swapped, attention(x_SH, weights, 2), rtol=0.1)
