import pytest

from neuronc.parallel.cost import PaddingCost, padding_cost
from neuronc.parallel.plan import plan_parallelism
from tests.unit.parallel.decoder_shapes import decoder_shapes, make_config

SMOLLM2_PARAMS = 134_515_008
HEAD_PARAMS = 2 * 576 * 64
"""Of one query head in one layer: its rows of q_proj and its columns of o_proj; KV heads too."""
NORMS = 61 * 576


def cost_of_smollm2(tp: int) -> PaddingCost:
    config = make_config()
    return padding_cost(plan_parallelism(config, decoder_shapes(config), tp))


@pytest.mark.parametrize("tp", [1, 3])
def test_a_split_without_padding_costs_no_flops(tp: int) -> None:
    cost = cost_of_smollm2(tp)

    assert (cost.extra_q_heads, cost.extra_kv_heads, cost.flops_ratio) == (0, 0, 1.0)
    assert cost.model_params == SMOLLM2_PARAMS
    assert cost.split_params == SMOLLM2_PARAMS + (tp - 1) * NORMS


def test_padded_heads_are_counted_in_parameters_and_flops() -> None:
    cost = cost_of_smollm2(2)

    padding = 30 * (3 + 1) * HEAD_PARAMS
    matrices = SMOLLM2_PARAMS - NORMS
    assert cost.split_params == SMOLLM2_PARAMS + NORMS + padding
    assert cost.flops_ratio == pytest.approx((matrices + padding) / matrices)


def test_a_head_that_is_not_tied_counts_once_in_flops() -> None:
    tied, untied = make_config(vocab_size=4), make_config(vocab_size=4, tie_word_embeddings=False)

    costs = [padding_cost(plan_parallelism(c, decoder_shapes(c), 3)) for c in (tied, untied)]

    assert costs[0].flops_ratio == costs[1].flops_ratio > 1.0
