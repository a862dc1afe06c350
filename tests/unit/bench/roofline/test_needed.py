from dataclasses import replace

import pytest

from neuronc.bench.roofline.needed import (
    Work,
    needed_decode,
    needed_embed,
    needed_prefill,
    padded,
)
from neuronc.bench.roofline.program_cost import ProgramCost

DECODE = ProgramCost(
    phase="decode",
    rows=4,
    tokens_per_row=1,
    keys_per_token=100,
    token_flops=4000,
    last_flops=0,
    attention_flops=8000,
    weight_bytes=1_000_000,
    picked_bytes=400,
    cache_read_bytes=40_000,
    cache_written_bytes=800,
    token_io_bytes=80,
    unknown_loops=0,
)
PREFILL = replace(
    DECODE, phase="prefill", rows=1, tokens_per_row=10, last_flops=7, attention_flops=100_000
)


def test_a_full_step_needs_all_of_it() -> None:
    assert needed_decode(DECODE, [100] * 4) == padded(DECODE)
    assert padded(DECODE) == Work(bytes=1_041_280, flops=12_000)


def test_decode_scales_with_slots_and_contexts_but_reads_all_weights() -> None:
    made = needed_decode(DECODE, [30, 50])  # half the slots, 80 of 400 keys
    assert made.flops == 2000 + 1600
    assert made.bytes == 1_000_000 + 8000 + 200 + 400 + 40


def test_prefill_scales_with_tokens_and_the_causal_half() -> None:
    made = needed_prefill(PREFILL, num_tokens=4)  # pairs 1 + 2 + 3 + 4 of 10 * 100
    assert made.flops == 7 + 1600 + 1000
    assert made.bytes == 1_000_000 + 1600 + 160 + 320 + 80


def test_a_later_chunk_sees_what_came_before() -> None:
    made = needed_prefill(PREFILL, num_tokens=4, start=20)  # 21 + 22 + 23 + 24 pairs
    assert made.flops == 7 + 1600 + 9000
    assert made.bytes == 1_000_000 + 9600 + 160 + 320 + 80


def test_embedding_scales_with_each_texts_square() -> None:
    cost = replace(DECODE, phase="embed", rows=2, tokens_per_row=10, keys_per_token=10)
    made = needed_embed(cost, [10, 5])  # 125 pairs of 200, 15 tokens of 20
    assert made.flops == 3000 + 5000
    assert needed_embed(cost, [10, 10]) == padded(cost)


def test_no_tokens_need_nothing() -> None:
    assert needed_decode(DECODE, []) == Work(bytes=0, flops=0)
    assert needed_prefill(PREFILL, num_tokens=0) == Work(bytes=0, flops=0)
    assert Work(bytes=0, flops=0).intensity is None


@pytest.mark.parametrize("contexts", [[1] * 5, [101]])
def test_more_than_the_program_holds_is_refused(contexts: list[int]) -> None:
    with pytest.raises(ValueError, match="the program has room for"):
        needed_decode(DECODE, contexts)


@pytest.mark.parametrize(("num_tokens", "start"), [(11, 0), (5, 96)])
def test_a_chunk_beyond_the_program_is_refused(num_tokens: int, start: int) -> None:
    with pytest.raises(ValueError, match="the program has room for"):
        needed_prefill(PREFILL, num_tokens=num_tokens, start=start)
