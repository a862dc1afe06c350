"""From the rounds to a row per engine and dtype."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from math import exp, log, sqrt
from statistics import fmean, median, stdev
from typing import Any

from neuronc.bench.compare.student_t import upper_quantile
from tests.benchmarks.peers.process import OWN
from tests.benchmarks.peers.processes import Outcome
from tests.benchmarks.peers.rounds import Cell, Rounds

LEVEL = 0.95
TIMES = ("ttft_ms", "itl_ms")


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """A median of rounds and how far they went."""

    middle: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One engine, dtype and number of threads.

    Attributes:
        times: Of `TIMES`; itl is the median of a round's gaps.
        ratios: Its times by ours in the same round: geometric mean, bounds of a 95 % interval.
        mbu: Bytes of the weights per token time, as a share of the read bandwidth; None where
            the engine chose how the weights are stored.
        same: Tokens until the first that differs from the f32 reference.
        others: Largest share of the machine that other processes took in a round.
        dtypes: What the engine says of weights, arithmetic and KV cache.
        reasons: Of the rounds that failed.
    """

    cell: Cell
    rounds: int
    times: Mapping[str, Spread]
    ratios: Mapping[str, Spread]
    mbu: float | None
    rss_bytes: int
    load_s: float
    same: int
    others: float
    dtypes: Mapping[str, str]
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """In JSON's terms."""
        return asdict(self)


def summarize(
    rounds: Rounds,
    *,
    ours: str,
    reference: Sequence[int],
    weight_bytes: Mapping[str, int],
    read_bytes_per_s: float,
) -> list[Row]:
    """A row for each cell, the fastest between tokens first; those without a result come last."""
    cells = dict.fromkeys(chain.from_iterable(rounds))
    rows = []
    for cell in cells:
        us = Cell(engine=ours, dtype=cell.dtype, threads=cell.threads)
        in_rounds = [found for found in rounds if cell in found]
        outcomes = [found[cell] for found in in_rounds]
        pairs = [(found[cell], found[us]) for found in in_rounds if us in found]
        size = weight_bytes.get(cell.dtype)
        floor_ms = None if size is None else 1e3 * size / read_bytes_per_s
        rows.append(_row(cell, outcomes, pairs, reference, floor_ms))
    dtypes = [*weight_bytes, OWN]
    return sorted(rows, key=lambda r: (-r.cell.threads, dtypes.index(r.cell.dtype), _itl(r)))


def ratio(pairs: Sequence[tuple[float, float]], level: float = LEVEL) -> Spread | None:
    """Of pairs that were measured in the same round, by Student's t of the logarithms."""
    if len(pairs) < 2:
        return None
    logs = [log(theirs / ours) for theirs, ours in pairs]
    half = upper_quantile((1 - level) / 2, len(logs) - 1) * stdev(logs) / sqrt(len(logs))
    middle = fmean(logs)
    return Spread(middle=exp(middle), low=exp(middle - half), high=exp(middle + half))


def round_time(outcome: Outcome, name: str) -> float | None:
    """Of the round's answer; of its gaps the median."""
    if outcome.result is None:
        return None
    value = outcome.result[name]
    return float(median(value) if name == "itl_ms" else value)


def same_tokens(tokens: Sequence[int], reference: Sequence[int]) -> int:
    """How many are the same before the first that is not."""
    pairs = zip(tokens, reference, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(tokens), len(reference)))


def _row(
    cell: Cell,
    outcomes: Sequence[Outcome],
    pairs: Sequence[tuple[Outcome, Outcome]],
    reference: Sequence[int],
    floor_ms: float | None,
) -> Row:
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    times = {name: _spread([round_time(o, name) for o in outcomes]) for name in TIMES}
    ratios = {
        name: ratio(_both([(round_time(a, name), round_time(b, name)) for a, b in pairs]))
        for name in TIMES
    }
    itl = times["itl_ms"]
    return Row(
        cell=cell,
        rounds=len(results),
        times={name: spread for name, spread in times.items() if spread is not None},
        ratios={name: spread for name, spread in ratios.items() if spread is not None},
        mbu=None if itl is None or floor_ms is None else floor_ms / itl.middle,
        rss_bytes=max((result["rss_bytes"] for result in results), default=0),
        load_s=median(result["load_s"] for result in results) if results else 0.0,
        same=min((same_tokens(result["tokens"], reference) for result in results), default=0),
        others=max(outcome.others for outcome in outcomes),
        dtypes=results[-1]["dtypes"] if results else {},
        reasons=tuple(outcome.reason for outcome in outcomes if outcome.result is None),
    )


def _both(pairs: Sequence[tuple[float | None, float | None]]) -> list[tuple[float, float]]:
    return [(a, b) for a, b in pairs if a is not None and b is not None]


def _spread(values: Sequence[float | None]) -> Spread | None:
    found = [value for value in values if value is not None]
    if not found:
        return None
    return Spread(middle=median(found), low=min(found), high=max(found))


def _itl(row: Row) -> float:
    return row.times["itl_ms"].middle if "itl_ms" in row.times else float("inf")
