"""Vocabularies that tp does not divide: no padded logit leaves a program."""

import numpy as np
import pytest
import torch

from neuronc.families.model_config import read_model_config
from neuronc.parallel.plan import plan_parallelism
from neuronc.trace.eager_ranks import EagerRanks
from neuronc.trace.meta_model import parameter_shapes, stored_names
from neuronc.trace.program_spec import list_programs
from neuronc.trace.trace_program import trace_program
from tests.tiny_families import TINY_FAMILIES, random_model

VOCAB_SIZE = TINY_FAMILIES["gpt2"][1]["vocab_size"]


@pytest.mark.parametrize("tp", [2, 4, 8])
def test_a_program_of_gpt2s_vocabulary_gives_out_its_tokens_alone(tp: int) -> None:
    raw = {"model_type": "gpt2", "n_embd": 48, "n_head": 8, "n_layer": 1, "vocab_size": 50257}
    config = read_model_config(raw, source="gpt2")
    plan = plan_parallelism(config, parameter_shapes(raw), tp)
    assert plan.vocab_per_rank * tp > 50257

    specs = list_programs(batch_size=2, max_length=16, prefill_buckets=(8,), decode_buckets=(16,))
    for spec, rows in zip(specs, (1, 2), strict=True):
        traced = trace_program(config, plan, spec, dtype="f32")
        logits = traced.exported.graph.output_node().args[0][0].meta["val"]
        assert logits.shape == traced.signature.outputs[0].shape == (rows, 50257)


@pytest.mark.parametrize("tp", [2, 4])
def test_a_padded_row_never_wins(tp: int) -> None:
    """Every logit of a real token is below zero, which is what a row of padding gives."""
    model = random_model("gpt2")
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()  # the head sees one constant vector
        model.transformer.ln_f.bias.fill_(1.0)
        model.lm_head.weight.copy_(-model.lm_head.weight.abs() - 0.1)  # tied: the embedding too
    weights = {name: model.state_dict()[name] for name in stored_names(model)}
    config = read_model_config(model.config.to_dict(), source="gpt2")
    plan = plan_parallelism(config, {n: tuple(w.shape) for n, w in weights.items()}, tp)
    assert plan.vocab_per_rank * tp > VOCAB_SIZE
    ranks = EagerRanks(config, plan, weights, batch_size=1, max_length=8, dtype="f32")

    logits = ranks.prefill([3, 4], slot=0, start=0, bucket=4)

    assert logits.shape == (VOCAB_SIZE,)
    assert logits.max() < 0
    assert int(np.argmax(logits)) < VOCAB_SIZE
