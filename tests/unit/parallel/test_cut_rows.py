"""Cutting a tensor block by block gives what cutting it whole gives, whatever the layout."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neuronc.parallel.rules import ParamRule, Piece
from neuronc.parallel.shards import cut_rows, cut_shard, is_in_order


@st.composite
def layouts(draw: st.DrawFn) -> ParamRule:
    """Ranks whose pieces are in order: some rows twice, some ranks with nothing but zeros."""
    size = draw(st.integers(1, 12))
    dim = draw(st.integers(0, 1))
    ranks = []
    for _ in range(draw(st.integers(1, 3))):
        cuts = sorted(draw(st.sets(st.integers(0, size), max_size=6)))
        pieces = []
        for begin, end in zip(cuts[::2], cuts[1::2], strict=False):
            if draw(st.booleans()):
                pieces.append(Piece(start=None, length=draw(st.integers(1, 3))))
            pieces.append(Piece(start=begin, length=end - begin))
        if not pieces or draw(st.booleans()):
            pieces.append(Piece(start=None, length=draw(st.integers(1, 3))))
        ranks.append(tuple(pieces))
    shape = (size, 3) if dim == 0 else (draw(st.integers(1, 9)), size)
    return ParamRule(name="w", role="column", shape=shape, dim=dim, ranks=tuple(ranks))


@given(layouts(), st.integers(1, 5))
def test_the_parts_of_all_blocks_are_the_shard(rule: ParamRule, step: int) -> None:
    whole = np.arange(1, 1 + np.prod(rule.shape), dtype=np.int64).reshape(rule.shape)
    for rank in range(len(rule.ranks)):
        parts = [
            part
            for start in range(0, rule.shape[0], step)
            for part in cut_rows(whole[start : start + step], start, rule, rank)
        ]
        assert np.array_equal(np.concatenate(parts), cut_shard(whole, rule, rank))


def test_rows_that_a_rank_holds_twice_are_cut_from_the_whole() -> None:
    twice = ((Piece(start=2, length=2), Piece(start=2, length=2), Piece(start=None, length=1)),)
    rule = ParamRule(name="w", role="column", shape=(4, 1), dim=0, ranks=twice)
    whole = np.arange(4).reshape(4, 1)

    assert not is_in_order(rule)
    assert np.array_equal(np.concatenate(cut_rows(whole, 0, rule, 0)), cut_shard(whole, rule, 0))


def test_neighbours_and_gaps_are_in_order() -> None:
    pieces = ((Piece(start=0, length=2), Piece(start=None, length=1), Piece(start=2, length=1)),)
    assert is_in_order(ParamRule(name="w", role="row", shape=(5,), dim=0, ranks=pieces))
