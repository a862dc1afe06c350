"""Benchmarks that never ran: whole runs whose luck is drawn, log-normal or with heavy tails."""

import math
import random
from collections.abc import Callable

from neuronc.bench.compare.names import MODES, Mode, higher_is_better
from neuronc.bench.compare.rules import DEFAULT_RULES, Rule, parse_rules
from neuronc.bench.compare.runs import Run

METRICS = ("tpot_ms.p50", "ttft_ms.p50", "output_tokens_per_s")
_TYPICAL = {"tpot_ms.p50": 12.0, "ttft_ms.p50": 75.0, "output_tokens_per_s": 80.0}
Draw = Callable[[random.Random], float]


def normal(draw: random.Random) -> float:
    return draw.gauss(0, 1)


def heavy_tailed(draw: random.Random) -> float:
    """Student's t with 3 degrees of freedom, of sd 1: one run in 30 is more than 3.2 sd off."""
    return draw.gauss(0, 1) / math.sqrt(sum(draw.gauss(0, 1) ** 2 for _ in range(3)))


def make_runs(
    draw: random.Random,
    repeats: int,
    sd: float,
    *,
    slowdown: float = 0.0,
    slower: tuple[str, ...] = METRICS,
    noise: Draw = normal,
    shared: float = 0.5,
    mode: Mode = "latency",
) -> list[Run]:
    """``repeats`` runs; ``shared`` of the variance is the run's, the rest is each metric's own."""
    runs = []
    for _ in range(repeats):
        luck = noise(draw)
        metrics: dict[str, float | None] = {}
        for name in METRICS:
            error = math.sqrt(shared) * luck + math.sqrt(1 - shared) * noise(draw)
            log = sd * error + (math.log1p(slowdown) if name in slower else 0.0)
            metrics[name] = _TYPICAL[name] * math.exp(-log if higher_is_better(name) else log)
        runs.append(Run(mode=mode, duration_s=1.0, num_requests=8, metrics=metrics))
    return runs


def rules_of(text: str = DEFAULT_RULES, mode: Mode = MODES[0]) -> tuple[Rule, ...]:
    return tuple(rule.in_mode(rule.mode or mode) for rule in parse_rules(text))
