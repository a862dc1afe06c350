"""The metrics that a rule may name, the short forms people write, and which way is worse."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Literal

from neuronc.errors import UsageError

Mode = Literal["latency", "throughput", "serve", "sweep"]
MODES: tuple[Mode, ...] = ("latency", "throughput", "serve", "sweep")
BEST, KNEE = "best_load", "knee_load"
OF_SWEEP = (BEST, KNEE)
"""Of a sweep as a whole: requests a second, or in flight."""

TIMES = ("ttft_ms", "ttft_send_ms", "queue_ms", "tpot_ms", "itl_ms", "e2e_ms", "norm_ms", "late_ms")
STATS = ("mean", "p50", "p90", "p95", "p99", "p99_9", "min", "max")
HIGHER_IS_BETTER = (
    "output_tokens_per_s",
    "total_tokens_per_s",
    "requests_per_s",
    "output_tokens_per_s_steady",
    "goodput_requests_per_s",
    "attainment",
    "occupancy",
    "useful",
    "fluidity",
    "kept_up",
    "user_tokens_per_s",
    "user_tokens_per_s_p95",
    *OF_SWEEP,
)
LOWER_IS_BETTER = ("pad_waste", "duration_s")
NEEDS_SLO = ("goodput_requests_per_s", "attainment", "fluidity", BEST)

_ALIASES = {
    "throughput": "output_tokens_per_s",
    "output_tokens": "output_tokens_per_s",
    "total_tokens": "total_tokens_per_s",
    "requests": "requests_per_s",
    "goodput": "goodput_requests_per_s",
    "duration": "duration_s",
    "user_tps": "user_tokens_per_s",
    "best": BEST,
    "knee": KNEE,
}


def higher_is_better(metric: str) -> bool:
    """Whether more of ``metric`` (a full name) is an improvement."""
    return metric in HIGHER_IS_BETTER


def find_metric(name: str) -> str:
    """The full name of what a rule calls ``name``: ``tpot.p50`` is ``tpot_ms.p50``.

    Raises:
        UsageError: There is no such metric; the nearest is named.
    """
    scalars = (*HIGHER_IS_BETTER, *LOWER_IS_BETTER)
    base, dot, stat = name.partition(".")
    stat = stat.replace(".", "_")  # p99.9 is p99_9
    base = _ALIASES.get(base, base)
    base = f"{base}_ms" if f"{base}_ms" in TIMES else base
    if (base in scalars and not dot) or (base in TIMES and stat in STATS):
        return f"{base}.{stat}" if dot else base
    if base in TIMES:
        shown = f"{name!r} names no statistic" if not dot else f"{name!r} names an unknown one"
        message = f"{shown}; expected one of {', '.join(STATS)} after the dot"
        raise UsageError(message, hint=f"write it like {name.partition('.')[0]}.p50")
    if base in scalars:
        message = f"{name!r}: {base} is one number a run and has no {stat!r}"
        raise UsageError(message, hint=f"write {name.partition('.')[0]}")
    raise _unknown(name, scalars)


def _unknown(name: str, scalars: Iterable[str]) -> UsageError:
    short = [time.removesuffix("_ms") for time in TIMES]
    known = [*scalars, *_ALIASES, *(f"{time}.{stat}" for time in short for stat in STATS)]
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    message = f"there is no metric {name!r}" + (f"; the nearest is {near[0]}" if near else "")
    times = ", ".join(short)
    hint = f"{times} with .mean .p50 .p99 and so on, or {', '.join(['throughput', *scalars])}"
    return UsageError(message, hint=hint)
