"""What a decode step of a mixture of experts costs: ``python -m tests.benchmarks.moe_decode``.

A random Mixtral of 2 layers for the CPU target, tp 1, batch 1: with more experts of which two are
picked, then with more of 32 picked. Steps of all models are measured in turns, round by round; the
median of the rounds' medians is shown, and the weights of the experts that a step needs.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

HIDDEN, FEATURES, LAYERS = 512, 1024, 2
CELLS = [(8, 2), (16, 2), (32, 2), (32, 1), (32, 4), (32, 8), (32, 32)]
STEPS = 30


def make(folder: Path, num_experts: int, num_picked: int) -> Any:
    """An opened artifact of a random model."""
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    from neuronc.pipeline import build
    from neuronc.recipe import Recipe
    from neuronc.runtime.session import Session

    torch.manual_seed(0)
    config = MixtralConfig(
        hidden_size=HIDDEN,
        intermediate_size=FEATURES,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        num_key_value_heads=8,
        vocab_size=256,
        max_position_embeddings=128,
        num_local_experts=num_experts,
        num_experts_per_tok=num_picked,
        sliding_window=None,
    )
    MixtralForCausalLM(config).save_pretrained(folder / "checkpoint")
    recipe = Recipe(checkpoint=str(folder / "checkpoint"), max_length=64, prefill_buckets=(8,))
    return Session.open(build(recipe, folder / "artifact").folder)


def step_ms(session: Any) -> float:
    """Median of `STEPS` decode steps."""
    taken = []
    for position in range(STEPS):
        begin = time.perf_counter()
        session.decode(np.array([position % 200 + 3]), np.array([position]))
        taken.append(1000 * (time.perf_counter() - begin))
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch:
        sessions = {}
        for experts, picked in CELLS:
            folder = Path(scratch) / f"{experts}_{picked}"
            folder.mkdir()
            sessions[experts, picked] = make(folder, experts, picked)
        rounds = [
            {cell: step_ms(session) for cell, session in sessions.items()}
            for _ in range(options.rounds + 1)
        ][1:]
    print(f"{'experts':>8} {'picked':>7} {'step ms':>9} {'picked MB':>10} {'all MB':>8}")
    for experts, picked in CELLS:
        taken = statistics.median(found[experts, picked] for found in rounds)
        one_mb = 3 * HIDDEN * FEATURES * LAYERS * 4 / 1e6
        shown = f"{taken:9.2f} {picked * one_mb:10.1f} {experts * one_mb:8.1f}"
        print(f"{experts:8} {picked:7} {shown}")


if __name__ == "__main__":
    main()
