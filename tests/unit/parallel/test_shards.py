from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.parallel.heads import lay_out_heads
from neuronc.parallel.rules import ParamRule, Piece, even_pieces, units_to_pieces
from neuronc.parallel.shards import cut_shard, join_shards

Array = np.ndarray[Any, Any]
dtypes = st.sampled_from(["f32", "bf16", "f16", "f64"])
ranks = st.integers(1, 9)


def random_bits(shape: tuple[int, ...], dtype: str) -> Array:
    """Every bit pattern, NaN and Inf among them."""
    element = numpy_dtype(DTYPES[dtype])
    count = int(np.prod(shape)) * element.itemsize
    data = np.random.default_rng(count).integers(0, 256, count, dtype=np.uint8)
    values: Array = data.view(element).reshape(shape)
    return values


def assert_comes_back(tensor: Array, rule: ParamRule) -> None:
    shards = [cut_shard(tensor, rule, rank) for rank in range(len(rule.ranks))]
    whole = join_shards(shards, rule)

    assert {shard.shape for shard in shards} == {rule.rank_shape}
    assert whole.dtype == tensor.dtype
    assert whole.tobytes() == tensor.tobytes()


@given(st.lists(st.integers(1, 7), min_size=1, max_size=3), st.data(), ranks, dtypes)
def test_an_even_cut_comes_back_bit_for_bit(
    shape: list[int], data: st.DataObject, tp: int, dtype: str
) -> None:
    dim = data.draw(st.integers(0, len(shape) - 1))
    rule = ParamRule(
        name="w", role="column", shape=tuple(shape), dim=dim, ranks=even_pieces(shape[dim], tp)
    )

    assert_comes_back(random_bits(rule.shape, dtype), rule)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), ranks, st.booleans(), dtypes)
def test_heads_come_back_bit_for_bit(
    kv_heads: int, group: int, head_dim: int, tp: int, is_row: bool, dtype: str
) -> None:
    layout = lay_out_heads(kv_heads * group, kv_heads, tp)
    for heads, count in ((layout.q_ranks, kv_heads * group), (layout.kv_ranks, kv_heads)):
        rule = ParamRule(
            name="w",
            role="row" if is_row else "column",
            shape=(2, count * head_dim) if is_row else (count * head_dim, 2),
            dim=int(is_row),
            ranks=tuple(units_to_pieces(units, head_dim) for units in heads),
        )
        assert_comes_back(random_bits(rule.shape, dtype), rule)


def test_padding_is_zeros_where_the_rule_says() -> None:
    ranks = ((Piece(start=2, length=1), Piece(start=None, length=1)), (Piece(start=0, length=2),))
    rule = ParamRule(name="w", role="column", shape=(3,), dim=0, ranks=ranks)
    tensor = np.array([1.0, 2.0, 3.0])

    assert cut_shard(tensor, rule, 0).tolist() == [3.0, 0.0]
    assert cut_shard(tensor, rule, 1).tolist() == [1.0, 2.0]


def test_a_shard_of_one_run_is_a_view() -> None:
    tensor = np.zeros((4, 2))
    rule = ParamRule(name="w", role="column", shape=(4, 2), dim=0, ranks=even_pieces(4, 2))

    assert cut_shard(tensor, rule, 1).base is tensor


def test_a_replicated_tensor_is_whole_on_every_rank() -> None:
    tensor = np.arange(3.0)
    rule = ParamRule(name="w", role="replicate", shape=(3,))

    assert cut_shard(tensor, rule, 5) is tensor
    assert join_shards([tensor, tensor], rule).tolist() == [0.0, 1.0, 2.0]


def test_heads_that_follow_each_other_become_one_piece() -> None:
    assert units_to_pieces((3, 4, None, None, 0), 8) == (
        Piece(start=24, length=16),
        Piece(start=None, length=16),
        Piece(start=0, length=8),
    )
