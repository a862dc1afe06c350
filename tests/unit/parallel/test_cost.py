from math import prod

import pytest

from neuronc.parallel.cost import CONTEXT, PaddingCost, padding_cost
from neuronc.parallel.heads import lay_out_heads
from neuronc.parallel.plan import ParallelPlan, plan_parallelism
from neuronc.parallel.rules import ParamRule, even_pieces
from tests.unit.parallel.decoder_shapes import decoder_shapes, make_config

SMOLLM2_PARAMS = 134_515_008
HEAD_PARAMS = 2 * 576 * 64
"""Of one query head in one layer: its rows of q_proj and its columns of o_proj; KV heads too."""
NORMS = 61 * 576


def cost_of_smollm2(tp: int) -> PaddingCost:
    config = make_config()
    return padding_cost(plan_parallelism(config, decoder_shapes(config), tp), config)


@pytest.mark.parametrize("tp", [1, 3])
def test_a_split_without_padding_costs_no_flops(tp: int) -> None:
    cost = cost_of_smollm2(tp)

    assert (cost.extra_q_heads, cost.extra_kv_heads, cost.flops_ratio) == (0, 0, 1.0)
    assert cost.model_params == SMOLLM2_PARAMS
    assert cost.split_params == SMOLLM2_PARAMS + (tp - 1) * NORMS


def test_padded_heads_are_counted_in_parameters_and_flops() -> None:
    cost = cost_of_smollm2(2)

    padding = 30 * (3 + 1) * HEAD_PARAMS
    attention = 30 * 2 * 64 * CONTEXT  # of a query head in all layers, as 2 FLOPs per weight
    padding_flops = padding + 3 * attention
    own = SMOLLM2_PARAMS - NORMS + 9 * attention
    assert cost.split_params == SMOLLM2_PARAMS + NORMS + padding
    assert cost.flops_ratio == pytest.approx((own + padding_flops) / own)


def test_a_head_that_is_not_tied_counts_once_in_flops() -> None:
    tied, untied = make_config(vocab_size=4), make_config(vocab_size=4, tie_word_embeddings=False)

    costs = [padding_cost(plan_parallelism(c, decoder_shapes(c), 3), c) for c in (tied, untied)]

    assert costs[0].flops_ratio == costs[1].flops_ratio > 1.0


def test_what_is_whole_on_every_rank_counts_on_every_rank() -> None:
    """As of a generic plan: linear layers are gathered, attention and experts are not split."""
    config = make_config(model_type="glm", num_hidden_layers=1)
    gathered, router, experts = (4096, 576), (64, 576), (4, 576, 32)
    whole = {"layers.0.router": router, "layers.0.experts": experts, "positions": (2048, 576)}
    rules = {n: ParamRule(name=n, role="replicate", shape=s) for n, s in whole.items()}
    rules["layers.0.mlp"] = ParamRule(
        name="layers.0.mlp", role="gather", shape=gathered, dim=0, ranks=even_pieces(4096, 4)
    )
    plan = ParallelPlan(tp=4, rules=rules, heads=lay_out_heads(9, 3, 1), vocab_per_rank=1)

    attention = 9 * 2 * config.head_dim * CONTEXT
    on_each = attention + prod(router) + prod(experts)
    expected = (prod(gathered) + 4 * on_each) / (prod(gathered) + on_each)
    assert padding_cost(plan, config).flops_ratio == pytest.approx(expected)
