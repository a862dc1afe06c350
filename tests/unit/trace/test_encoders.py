"""Every encoder, split over ranks, against transformers: texts of several lengths in one call."""

import numpy as np
import pytest
import torch

from neuronc.families.find import encoder_types
from neuronc.families.model_config import read_model_config
from neuronc.parallel.plan import plan_parallelism
from neuronc.trace.eager_ranks import EagerRanks
from neuronc.trace.meta_model import stored_names
from tests.tiny_families import RANKS_TP, TINY_ENCODERS, encoder_config, random_encoder

BUCKET = 24
LENGTHS = (24, 1, 17)
TOLERANCE = 2e-5
"""Of the largest element: f32, sums in another order."""

FAST_TP = (1, 3)
DEGREES = [tp if tp in FAST_TP else pytest.param(tp, marks=pytest.mark.slow) for tp in RANKS_TP]


def expected_embedding(model: torch.nn.Module, ids: list[int], pooling: str) -> np.ndarray:
    """Of one text alone, without padding: what a program may not let padding change."""
    with torch.no_grad():
        hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    pooled = hidden[0] if pooling == "cls" else hidden.mean(0)
    embedding: np.ndarray = pooled.numpy()
    return embedding


@pytest.mark.parametrize("tp", DEGREES)
@pytest.mark.parametrize("variant", TINY_ENCODERS)
def test_ranks_compute_what_transformers_does(variant: str, tp: int) -> None:
    model = random_encoder(variant)
    weights = {name: model.state_dict()[name] for name in stored_names(model)}
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    rng = np.random.default_rng(3)
    texts = [rng.integers(3, 60, length).tolist() for length in LENGTHS]

    for pooling, normalize in (("mean", False), ("cls", True)):
        raw = encoder_config(variant, pooling=pooling, normalize=normalize)
        config = read_model_config(raw, source=variant)
        plan = plan_parallelism(config, shapes, tp)
        sizes = {"batch_size": 3, "max_length": BUCKET}
        ranks = EagerRanks(config, plan, weights, dtype="f32", **sizes)
        found = ranks.embed(texts, bucket=BUCKET)
        for row, text in zip(found, texts, strict=True):
            expected = expected_embedding(model, text, pooling)
            expected = expected / np.linalg.norm(expected) if normalize else expected
            assert np.abs(row - expected).max() < TOLERANCE * np.abs(expected).max()


def test_every_file_of_an_encoder_is_tested() -> None:
    assert {model_type for model_type, _ in TINY_ENCODERS.values()} == set(encoder_types())
