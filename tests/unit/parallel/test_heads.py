import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronc.parallel.heads import HeadLayout, lay_out_heads

any_heads = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 24))


def layout_of(sizes: tuple[int, int, int]) -> HeadLayout:
    kv_heads, group, tp = sizes
    return lay_out_heads(kv_heads * group, kv_heads, tp)


@given(any_heads)
def test_every_query_head_is_on_exactly_one_rank(sizes: tuple[int, int, int]) -> None:
    layout = layout_of(sizes)

    found = [head for rank in layout.q_ranks for head in rank if head is not None]

    assert sorted(found) == list(range(sizes[0] * sizes[1]))


@given(any_heads)
def test_every_query_head_meets_its_own_kv_head_in_its_group_of_slots(
    sizes: tuple[int, int, int],
) -> None:
    layout = layout_of(sizes)

    for queries, kvs in zip(layout.q_ranks, layout.kv_ranks, strict=True):
        for slot, query in enumerate(queries):
            if query is not None:
                assert kvs[slot // layout.q_per_kv] == query // sizes[1]


@given(any_heads)
def test_all_ranks_have_the_same_number_of_slots(sizes: tuple[int, int, int]) -> None:
    layout = layout_of(sizes)

    assert len(layout.q_ranks) == len(layout.kv_ranks) == sizes[2]
    assert {len(rank) for rank in layout.q_ranks} == {layout.q_per_rank}
    assert {len(rank) for rank in layout.kv_ranks} == {layout.kv_per_rank}


@given(any_heads)
def test_no_uniform_layout_is_cheaper(sizes: tuple[int, int, int]) -> None:
    kv_heads, group, tp = sizes
    layout = layout_of(sizes)

    def rows(q_per_kv: int) -> int:
        chunks = kv_heads * -(-group // q_per_kv)
        return -(-chunks // tp) * (q_per_kv + 1)

    cheapest = min(rows(q_per_kv) for q_per_kv in range(1, group + 1))
    assert layout.q_per_rank + layout.kv_per_rank == cheapest


@pytest.mark.parametrize(
    ("tp", "q_per_rank", "kv_per_rank", "extra_q", "extra_kv"),
    [(1, 9, 3, 0, 0), (2, 6, 2, 3, 1), (3, 3, 1, 0, 0), (4, 3, 1, 3, 1), (9, 1, 1, 0, 6)],
)
def test_smollm2_heads_fit_every_tp(
    tp: int, q_per_rank: int, kv_per_rank: int, extra_q: int, extra_kv: int
) -> None:
    layout = lay_out_heads(9, 3, tp)

    assert (layout.q_per_rank, layout.kv_per_rank) == (q_per_rank, kv_per_rank)
    assert (layout.extra_q_heads, layout.extra_kv_heads) == (extra_q, extra_kv)


def test_padding_stays_inside_the_group_of_its_kv_head() -> None:
    layout = lay_out_heads(9, 3, 6)

    assert layout.q_ranks == ((0, 1), (2, None), (3, 4), (5, None), (6, 7), (8, None))
    assert layout.kv_ranks == ((0,), (0,), (1,), (1,), (2,), (2,))


def test_kv_heads_are_replicated_where_tp_exceeds_them() -> None:
    layout = lay_out_heads(32, 8, 16)

    assert layout.kv_ranks == tuple((rank // 2,) for rank in range(16))
    assert layout.extra_q_heads == 0


def test_of_equally_cheap_layouts_the_one_with_the_smaller_cache_wins() -> None:
    # One KV slot with 3 queries, or two with 1 each: 4 projection rows per rank either way.
    layout = lay_out_heads(6, 2, 3)

    assert (layout.q_per_kv, layout.kv_per_rank) == (3, 1)
