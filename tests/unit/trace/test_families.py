"""Every named family, split over ranks, against transformers: prefill in chunks, mixed decode."""

import numpy as np
import pytest
import torch

from neuronc.families.model_config import read_model_config
from neuronc.parallel.plan import plan_parallelism
from neuronc.trace.eager_ranks import EagerRanks
from neuronc.trace.meta_model import stored_names
from tests.tiny_families import RANKS_TP, TINY_FAMILIES, random_model

LENGTH, MAX_LENGTH = 23, 32
TOLERANCE = 2e-5
"""Of the largest logit: f32, sums in another order."""


FAST_TP = (3,)
DEGREES = [tp if tp in FAST_TP else pytest.param(tp, marks=pytest.mark.slow) for tp in RANKS_TP]


@pytest.mark.parametrize("tp", DEGREES)
@pytest.mark.parametrize("variant", TINY_FAMILIES)
def test_ranks_compute_what_transformers_does(variant: str, tp: int) -> None:
    model = random_model(variant)
    weights = {name: model.state_dict()[name] for name in stored_names(model)}
    config = read_model_config(model.config.to_dict(), source=variant)
    plan = plan_parallelism(config, {n: tuple(w.shape) for n, w in weights.items()}, tp)
    ids = np.random.default_rng(3).integers(3, config.vocab_size, (2, LENGTH))
    with torch.no_grad():
        expected = model(input_ids=torch.tensor(ids), use_cache=False).logits.numpy()
    scale = np.abs(expected).max()
    ranks = EagerRanks(config, plan, weights, batch_size=2, max_length=MAX_LENGTH, dtype="f32")

    for slot, lengths in enumerate([(8, 8, 1), (8, 3)]):
        start = 0
        for length in lengths:
            chunk = ids[slot, start : start + length].tolist()
            logits = ranks.prefill(chunk, slot=slot, start=start, bucket=8)
            start += length
            assert np.abs(logits - expected[slot, start - 1]).max() < TOLERANCE * scale
    for step in range(5):
        positions = [17 + step, 11 + step]
        tokens = [int(ids[slot, positions[slot]]) for slot in range(2)]
        logits = ranks.decode(tokens, positions)
        for slot in range(2):
            wanted = expected[slot, positions[slot]]
            assert np.abs(logits[slot] - wanted).max() < TOLERANCE * scale
