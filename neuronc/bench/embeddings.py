"""Latency and throughput of an encoder's artifact: every bucket, alone and in full batches."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neuronc.bench.caveats import busy_machine
from neuronc.bench.document import headline
from neuronc.bench.environment import Environment, peak_rss_bytes, read_environment
from neuronc.bench.statistics.distribution import Distribution, describe
from neuronc.bench.terminal_tables import number
from neuronc.progress import SILENT, Progress

if TYPE_CHECKING:
    from neuronc.runtime.session import Session

WARMUP_CALLS = 2
DEFINITIONS: Mapping[str, str] = {
    "latency_ms": "from the call with token ids until the embeddings are on the host; one call",
    "sequences_per_s": "texts of all calls / sum of the calls' times; rows of padding never count",
    "tokens_per_s": "tokens of those texts / the same time; padding never counts",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedCell:
    """One bucket with one number of texts in a call.

    Attributes:
        bucket: Of the program; every text fills it.
        num_texts: In each call.
        latency_ms: Of the calls.
        sequences_per_s: See `DEFINITIONS`.
        tokens_per_s: See `DEFINITIONS`.
    """

    bucket: int
    num_texts: int
    latency_ms: Distribution
    sequences_per_s: float
    tokens_per_s: float

    def to_dict(self) -> dict[str, object]:
        """JSON form."""
        return {
            "bucket": self.bucket,
            "num_texts": self.num_texts,
            "latency_ms": self.latency_ms.to_dict(),
            "sequences_per_s": self.sequences_per_s,
            "tokens_per_s": self.tokens_per_s,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedReport:
    """All cells, and what they were measured on."""

    cells: tuple[EmbedCell, ...]
    num_calls: int
    seed: int
    target: str
    artifact_digest: str
    load_s: float
    environment: Environment
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The JSON form."""
        return {
            "cells": [cell.to_dict() for cell in self.cells],
            "sequences_per_s": max(cell.sequences_per_s for cell in self.cells),
            "load_s": self.load_s,
            "peak_rss_bytes": peak_rss_bytes(),
            "environment": dict(self.environment),
            "artifact_digest": self.artifact_digest,
            "target": self.target,
            "workload": {
                "num_calls": self.num_calls,
                "seed": self.seed,
                "warmup_calls": WARMUP_CALLS,
            },
            "definitions": dict(DEFINITIONS),
        }

    def render(self, console: Any) -> None:
        """A row per cell."""
        from neuronc.cli.tables import draw_rows

        console.print(headline(self.target))
        header = (
            "tokens x texts",
            "calls",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "sequences/s",
            "tokens/s",
        )
        draw_rows(console, header, [_row(cell) for cell in self.cells])


def _row(cell: EmbedCell) -> tuple[str, ...]:
    latency = cell.latency_ms
    return (
        f"{cell.bucket} x {cell.num_texts}",
        str(latency.n),
        *(number(latency.percentiles[p].value) for p in ("p50", "p90", "p99")),
        f"{cell.sequences_per_s:,.1f}",
        f"{cell.tokens_per_s:,.0f}",
    )


def bench_embeddings(
    session: "Session",
    *,
    vocab_size: int,
    num_calls: int,
    seed: int,
    progress: Progress = SILENT,
) -> EmbedReport:
    """Time ``num_calls`` calls of every cell, after `WARMUP_CALLS` of it; tokens are random."""
    environment = read_environment()
    sizes = [(b, n) for b in session.embed_buckets for n in sorted({1, session.batch_size})]
    rng = np.random.default_rng(seed)
    cells = []
    with progress.stage("measuring", total=len(sizes), unit="cells") as stage:
        for bucket, num_texts in sizes:
            texts = rng.integers(0, vocab_size, (num_texts, bucket)).tolist()
            cells.append(_measure(session, texts, bucket, num_calls))
            stage.advance(1, note=f"{bucket} x {num_texts}")
    return EmbedReport(
        cells=tuple(cells),
        num_calls=num_calls,
        seed=seed,
        target=session.ran_on,
        artifact_digest=session.manifest.digest,
        load_s=session.load_s,
        environment=environment,
        warnings=tuple(busy_machine(environment)),
    )


def _measure(session: "Session", texts: list[list[int]], bucket: int, num_calls: int) -> EmbedCell:
    taken_ms = []
    for _ in range(WARMUP_CALLS + num_calls):
        begin = time.perf_counter_ns()
        session.embed(texts)
        taken_ms.append((time.perf_counter_ns() - begin) / 1e6)
    latency = describe(taken_ms[WARMUP_CALLS:])
    assert latency is not None, "there is at least one call"
    per_s = 1000 * len(texts) / latency.mean
    return EmbedCell(
        bucket=bucket,
        num_texts=len(texts),
        latency_ms=latency,
        sequences_per_s=per_s,
        tokens_per_s=per_s * bucket,
    )
