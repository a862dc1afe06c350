"""Compiled logits against reference logits: how far apart, and is it more than rounding?

Definitions, for one row of logits ``a`` (compiled) and ``b`` (reference):

* relative error: ``max |a - b| / max |b|``;
* ulp: relative error divided by the dtype's spacing at 1.0;
* top-1 agreement: both have the same largest entry. Where they do not, and the reference's two
  entries differ by less than twice the largest error allowed, it is a tie, not a disagreement;
* KL divergence: ``sum p_b (log p_b - log p_a)`` in nats, of the softmax distributions.

What is allowed. In f32, a count of ulp that grows with the layers. In reduced precision the dtype
itself makes an error that depends on the model, so it is measured: transformers runs the model in
that dtype too. A compiled row may be off from the f32 reference by `FACTOR` times the largest error
that transformers makes, and the median row by `FACTOR` times transformers' median: where rounding
picks other experts the largest error says little.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from neuronc.dtypes import DTYPES
from neuronc.runtime.sampling import greedy

Array = np.ndarray[Any, Any]

# f32: ulp allowed at least, and per sqrt(layer): rounding errors of layers add up like a random walk,
# and sums run over hundreds of terms in another order than the reference's. SmolLM2 (30 layers): 31.
_LEAST_ULP, _PER_SQRT_LAYER_ULP = 100.0, 50.0

FACTOR = 2.0
"""Of the largest error that transformers makes in a reduced dtype: what a compiled row may make."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogitsRow:
    """One compared position of one sequence.

    Attributes:
        phase: Program kind that made the compiled logits.
        bucket: Of that program.
        slot: Where the sequence lived.
        position: Index of the token whose successor the logits predict.
        same_dtype: transformers' own logits in the artifact's dtype; None where that is f32.
        token: What the program sampled from the compiled logits; None where it samples nothing.
    """

    phase: str
    bucket: int
    slot: int
    position: int
    compiled: Array
    reference: Array
    same_dtype: Array | None = None
    token: int | None = None

    @property
    def told(self) -> str:
        """Where it is, and what is wrong with its token if that is what is wrong."""
        place = f"{self.phase}_{self.bucket}, slot {self.slot}, position {self.position}"
        if not self.is_wrong_token:
            return place
        return f"{place} (on the device token {self.token}, of its logits {greedy(self.compiled)})"

    @property
    def is_wrong_token(self) -> bool:
        """Whether the token is not the host's choice from the very same logits."""
        return self.token is not None and self.token != greedy(self.compiled)


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """All rows of one verification.

    Attributes:
        num_rows: Logits rows compared.
        max_abs_error: Largest ``|a - b|``.
        max_relative_error: Largest relative error of a row.
        max_ulp: The same in units of the dtype's spacing.
        tolerance_ulp: What is allowed.
        dtype_ulp: Largest error that transformers makes in the artifact's dtype; None for f32.
        top1_agreement: Fraction of rows with the same largest entry, ties counted as agreeing.
        num_ties: Rows that differ only by a tie.
        max_kl: Largest KL divergence of a row, in nats.
        first_divergence: Phase, bucket, slot and position of the first row beyond tolerance.
        by_program: Rows and largest ulp of each program.
        num_tokens: Tokens sampled on the device, each compared with what the host chooses from the
            logits of the same run; None for an artifact that does not sample.
        num_wrong_tokens: Those that are another.
    """

    num_rows: int
    max_abs_error: float
    max_relative_error: float
    max_ulp: float
    tolerance_ulp: float
    dtype_ulp: float | None
    top1_agreement: float
    num_ties: int
    max_kl: float
    first_divergence: str | None
    by_program: dict[str, dict[str, float]]
    num_tokens: int | None = None
    num_wrong_tokens: int = 0

    def describe(self) -> str:
        """What was found, for an error."""
        wrong = f"; {self.num_wrong_tokens} of {self.num_tokens} tokens sampled wrongly"
        return (
            f"{describe_error(self.max_ulp, self.tolerance_ulp, self.dtype_ulp)};"
            f" top-1 agreement {self.top1_agreement:.1%}{wrong if self.num_wrong_tokens else ''}"
        )

    @property
    def passed(self) -> bool:
        """No row is beyond the tolerance, and no token differs except by a tie."""
        return self.first_divergence is None


def describe_error(max_ulp: float, tolerance_ulp: float, dtype_ulp: float | None) -> str:
    """The error, and what is allowed and why."""
    why = "" if dtype_ulp is None else f" ({FACTOR:g}x transformers' own {dtype_ulp:.4g})"
    return f"{max_ulp:.4g} ulp, allowed {tolerance_ulp:.4g}{why}"


def tolerance_ulp(dtype_ulp: float | None, num_layers: int) -> float:
    """Allowed error of a row, in ulp of the artifact's dtype.

    Args:
        dtype_ulp: Largest error that transformers makes in that dtype; None for f32.
        num_layers: Of the model.
    """
    if dtype_ulp is None:
        return _LEAST_ULP + _PER_SQRT_LAYER_ULP * sqrt(num_layers)
    return max(1.0, FACTOR * dtype_ulp)


def largest_ulp(pairs: Sequence[tuple[Array | None, Array]], eps: float) -> float | None:
    """Largest relative error of the first of each pair, in ``eps``; None where there are none.

    One that is not finite (f16 overflows early) excuses nothing, and does not count.
    """
    found = [relative_error(a, b) / eps for a, b in pairs if a is not None]
    return max((ulp for ulp in found if np.isfinite(ulp)), default=0.0) if found else None


def typical_difference(found: Sequence[float], own: Sequence[float]) -> str | None:
    """What to say where the median of the errors ``found``, in ulp, is beyond what ``own`` allows."""
    if not own:
        return None
    here, there = float(np.median(found)), float(np.median(own))
    if here <= tolerance_ulp(there, 0):
        return None
    return f"the median of {len(found)} rows, {here:.3g} ulp (transformers' own: {there:.3g})"


def relative_error(a: Array, b: Array) -> float:
    """``max |a - b| / max |b|``; infinite for a NaN or infinity in ``a``."""
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    if not np.isfinite(wide_a).all():
        return float("inf")
    return float(np.abs(wide_a - wide_b).max()) / (float(np.abs(wide_b).max()) or 1.0)


def kl_divergence(a: Array, b: Array) -> float:
    """``sum p_b (log p_b - log p_a)`` in nats, of the softmax of logits ``a`` and ``b``."""
    log_a, log_b = _log_softmax(a.astype(np.float64)), _log_softmax(b.astype(np.float64))
    return max(0.0, float((np.exp(log_b) * (log_b - log_a)).sum()))


def compare_rows(rows: Sequence[LogitsRow], *, dtype: str, num_layers: int) -> Comparison:
    """Compare ``rows``; a NaN or infinity in the compiled logits is an infinite error."""
    eps = DTYPES[dtype].eps
    own = largest_ulp([(row.same_dtype, row.reference) for row in rows], eps)
    assert (own is None) == (dtype == "f32"), "reduced precision has transformers' own rows"
    allowed = tolerance_ulp(own, num_layers)
    measured = [_measure(row, eps, allowed) for row in rows]
    bad = (r for r, m in zip(rows, measured, strict=True) if not m.fine or r.is_wrong_token)
    first = next(bad, None)
    tokens = [row for row in rows if row.token is not None]
    own_errors = [
        relative_error(row.same_dtype, row.reference) / eps
        for row in rows
        if row.same_dtype is not None
    ]
    typical = typical_difference([m.ulp for m in measured], own_errors)
    by_program: dict[str, dict[str, float]] = {}
    for row, m in zip(rows, measured, strict=True):
        entry = by_program.setdefault(f"{row.phase}_{row.bucket}", {"rows": 0, "max_ulp": 0.0})
        entry["rows"] += 1
        entry["max_ulp"] = max(entry["max_ulp"], m.ulp)
    return Comparison(
        num_rows=len(rows),
        max_abs_error=max(m.abs_error for m in measured),
        max_relative_error=max(m.ulp for m in measured) * eps,
        max_ulp=max(m.ulp for m in measured),
        tolerance_ulp=allowed,
        dtype_ulp=own,
        top1_agreement=sum(m.top1 for m in measured) / len(measured),
        num_ties=sum(m.tie for m in measured),
        max_kl=max(m.kl for m in measured),
        first_divergence=typical if first is None else first.told,
        by_program=by_program,
        num_tokens=len(tokens) or None,
        num_wrong_tokens=sum(row.is_wrong_token for row in tokens),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Measured:
    abs_error: float
    ulp: float
    kl: float
    top1: bool
    tie: bool
    fine: bool


def _measure(row: LogitsRow, eps: float, allowed: float) -> _Measured:
    a, b = row.compiled.astype(np.float64), row.reference.astype(np.float64)
    if not np.isfinite(a).all():
        inf = float("inf")
        return _Measured(abs_error=inf, ulp=inf, kl=inf, top1=False, tie=False, fine=False)
    scale = float(np.abs(b).max()) or 1.0
    error = float(np.abs(a - b).max())
    ulp = error / scale / eps
    best_a, best_b = int(a.argmax()), int(b.argmax())
    margin = float(b[best_b] - b[best_a])
    tie = best_a != best_b and margin <= 2 * allowed * eps * scale
    return _Measured(
        abs_error=error,
        ulp=ulp,
        kl=kl_divergence(a, b),
        top1=best_a == best_b or tie,
        tie=tie,
        fine=ulp <= allowed and (best_a == best_b or tie),
    )


def _log_softmax(x: Array) -> Array:
    shifted = x - x.max()
    result: Array = shifted - np.log(np.exp(shifted).sum())
    return result
