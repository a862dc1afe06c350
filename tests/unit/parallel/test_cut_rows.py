"""Cutting a tensor block by block gives what cutting it whole gives, whatever the layout."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neuronc.parallel.rules import ParamRule, Piece
from neuronc.parallel.shards import cut_rows, cut_shard


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
