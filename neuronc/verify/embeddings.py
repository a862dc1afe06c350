"""An encoder's artifact against transformers: every bucket, texts of all lengths side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuronc.dtypes import DTYPES
from neuronc.families.embedding import Embedding
from neuronc.progress import Progress
from neuronc.runtime.session import Session
from neuronc.verify.compare import (
    describe_error,
    largest_ulp,
    relative_error,
    tolerance_ulp,
    typical_difference,
)
from neuronc.verify.reference import References

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingComparison:
    """All embeddings of one verification.

    Attributes:
        num_rows: Embeddings compared.
        max_abs_error: Largest ``|a - b|`` of an element.
        max_relative_error: Largest ``max |a - b| / max |b|`` of an embedding.
        max_ulp: The same in units of the dtype's spacing at 1.
        tolerance_ulp: What is allowed.
        dtype_ulp: Largest error that transformers makes in the artifact's dtype; None for f32.
        min_cosine: Smallest cosine similarity of an embedding with the reference's.
        first_divergence: Program and tokens of the first embedding beyond tolerance.
        by_program: Rows and largest ulp of each program.
    """

    num_rows: int
    max_abs_error: float
    max_relative_error: float
    max_ulp: float
    tolerance_ulp: float
    dtype_ulp: float | None
    min_cosine: float
    first_divergence: str | None
    by_program: dict[str, dict[str, float]]

    @property
    def passed(self) -> bool:
        """No embedding is beyond the tolerance."""
        return self.first_divergence is None

    def describe(self) -> str:
        """What was found, for an error."""
        return (
            f"{describe_error(self.max_ulp, self.tolerance_ulp, self.dtype_ulp)};"
            f" smallest cosine similarity {self.min_cosine:.6f}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingRow:
    """One text's embedding by both, and by transformers in the artifact's dtype."""

    bucket: int
    num_tokens: int
    compiled: Array
    reference: Array
    same_dtype: Array | None


def compare_embeddings(
    rows: Sequence[EmbeddingRow], *, dtype: str, num_layers: int
) -> EmbeddingComparison:
    """Compare ``rows``; a NaN or infinity in a compiled embedding is an infinite error."""
    eps = DTYPES[dtype].eps
    own = largest_ulp([(row.same_dtype, row.reference) for row in rows], eps)
    allowed = tolerance_ulp(own, num_layers)
    by_program: dict[str, dict[str, float]] = {}
    first, errors, relatives, cosines = None, [0.0], [0.0], [1.0]
    for row in rows:
        a, b = row.compiled.astype(np.float64), row.reference.astype(np.float64)
        relative = relative_error(a, b)
        if first is None and not relative / eps <= allowed:
            first = f"embed_{row.bucket}, a text of {row.num_tokens} tokens"
        entry = by_program.setdefault(f"embed_{row.bucket}", {"rows": 0, "max_ulp": 0.0})
        entry["rows"] += 1
        entry["max_ulp"] = max(entry["max_ulp"], relative / eps)
        errors.append(relative * (float(np.abs(b).max()) or 1.0))
        relatives.append(relative)
        cosines.append(cosine(a, b))
    own_errors = [
        relative_error(row.same_dtype, row.reference) / eps
        for row in rows
        if row.same_dtype is not None
    ]
    first = first or typical_difference([r / eps for r in relatives[1:]], own_errors)
    return EmbeddingComparison(
        num_rows=len(rows),
        max_abs_error=max(errors),
        max_relative_error=max(relatives),
        max_ulp=max(relatives) / eps,
        tolerance_ulp=allowed,
        dtype_ulp=own,
        min_cosine=min(cosines),
        first_divergence=first,
        by_program=by_program,
    )


def run_embeddings(
    session: Session,
    references: References,
    how: Embedding,
    tokens: Sequence[int],
    progress: Progress,
) -> list[EmbeddingRow]:
    """Every bucket, with a full batch and with one text; the reference takes each text alone.

    Args:
        session: The artifact.
        references: transformers' models.
        how: What makes an embedding of its outputs.
        tokens: Of real text, or random ones.
        progress: Told of every text.
    """
    batches = _batches(session, tokens)
    rows, known = [], dict[tuple[int, ...], list[Array | None]]()
    total = sum(len(batch) for batch in batches)
    with progress.stage("comparing embeddings", total=total, unit="texts") as stage:
        for batch in batches:
            bucket = min(b for b in session.embed_buckets if b >= max(map(len, batch)))
            for text, found in zip(batch, session.embed(batch), strict=True):
                if text not in known:
                    hidden = references.hidden(list(text))
                    known[text] = [None if h is None else pool_rows(h, how) for h in hidden]
                truth, own = known[text]
                assert truth is not None, "the f32 reference is always there"
                rows.append(
                    EmbeddingRow(
                        bucket=bucket,
                        num_tokens=len(text),
                        compiled=found,
                        reference=truth,
                        same_dtype=own,
                    )
                )
                stage.advance()
    return rows


def pool_rows(hidden_SH: Array, how: Embedding) -> Array:
    """The embedding of one unpadded text's outputs ``[S, H]``, in f64."""
    hidden = hidden_SH.astype(np.float64)
    pooled: Array = hidden[0] if how.pooling == "cls" else hidden.mean(0)
    return pooled / max(float(np.linalg.norm(pooled)), 1e-12) if how.normalize else pooled


def _batches(session: Session, tokens: Sequence[int]) -> list[list[tuple[int, ...]]]:
    """Per bucket: texts that fill it and end just inside it, down to one token; then one alone."""
    batches, smaller = [], 0
    for bucket in session.embed_buckets:
        lengths = [bucket, smaller + 1, max(1, bucket // 2), 1, bucket - 1 or 1]
        texts = [_text(tokens, lengths[i % len(lengths)], i) for i in range(session.batch_size)]
        batches += [texts, [_text(tokens, bucket, 7)]]
        smaller = bucket
    return batches


def _text(tokens: Sequence[int], length: int, number: int) -> tuple[int, ...]:
    begin = (length * 7 + number % 5 * 13) % len(tokens)  # few variants bound the reference's work
    return tuple(tokens[(begin + i) % len(tokens)] for i in range(length))


def cosine(a: Array, b: Array) -> float:
    """Cosine similarity; NaN where one of the two has no length."""
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if np.isfinite(scale) and scale else float("nan")
