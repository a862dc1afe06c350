"""Documents as `neuronc bench` writes them, cut down to what a comparison reads."""

import json
import math
import random
from pathlib import Path
from typing import Any

NUM_REQUESTS, NEW_TOKENS = 8, 32


def make_document(
    seed: int,
    *,
    repeats: int = 5,
    sd: float = 0.01,
    decode: float = 1.0,
    gap_ms: float = 0.3,
    **fingerprint: object,
) -> dict[str, Any]:
    """Latency and throughput of one artifact; ``decode`` multiplies its decode steps."""
    draw = random.Random(seed)
    made = [_repeat(draw, sd, decode, gap_ms) for _ in range(repeats)]
    marks: dict[str, Any] = {
        "artifact_digest": f"{seed:064x}",
        "weights_digest": "ab",
        "model": {"model_type": "llama", "source": f"folder-{seed}", "config_sha256": "c0"},
        "target": "cpu",
        "tp": 1,
        "batch_size": 4,
        "max_length": 512,
        "dtype": "f32",
        "quantize": None,
        "prefill_buckets": [32],
        "decode_buckets": [64],
        "tool_versions": {"neuronc": "0.1.0"},
        "verified": True,
    }
    latency = {"mode": "latency", "concurrency": 1, "rate": None, "repeats": made}
    return {
        "schema": "neuronc.bench/1",
        "status": "ok",
        "headline": "CPU target (XLA:CPU, not a Neuron device)",
        "ran_on": "cpu",
        "fingerprint": {**marks, **fingerprint},
        "environment": {"cpu_model": "a CPU", "threads_visible": 2},
        "workload": {"prompt_tokens": "fixed:32", "new_tokens": "fixed:32", "seed": 0},
        "modes": {
            "steps": {"cells": []},
            "latency": latency,
            "throughput": {**latency, "mode": "throughput", "concurrency": 4},
        },
        "noise": {"noisy": False, "findings": []},
        "validation": {"valid": True, "problems": []},
        "caveats": [],
    }


def make_sweep(
    seed: int,
    *,
    loads: tuple[float, ...] = (1.0, 2.0, 4.0),
    good: tuple[float, ...] = (1.0, 1.0, 0.5),
    kept_up: tuple[float, ...] = (1.0, 1.0, 0.7),
    by: str = "rate",
    **changes: Any,
) -> dict[str, Any]:
    """A sweep; ``good`` and ``kept_up`` are the same in every repeat of a load."""
    document = make_document(seed, **changes)
    points = []
    for number, (at, share, pace) in enumerate(zip(loads, good, kept_up, strict=True)):
        runs = make_document(100 * seed + number, **changes)["modes"]["latency"]
        for run in runs["repeats"]:
            run["metrics"] |= {"attainment": share, "kept_up": pace}
            run["metrics"]["output_tokens_per_s"] *= at
        runs |= {"mode": "sweep", "concurrency": None, "rate": None, by: at, "arrival": "poisson"}
        runs["slo"] = {"ttft_ms": 500.0, "wanted_attainment": 0.9}
        points.append({"at": at, "runs": runs})
    document["modes"] = {"sweep": {"by": by, "points": points, "knee": None, "best": None}}
    return document


def _repeat(draw: random.Random, sd: float, decode: float, gap_ms: float) -> dict[str, Any]:
    decode_ms = 12 * decode * math.exp(draw.gauss(0, sd))
    prefill_ms = 75 * math.exp(draw.gauss(0, sd))
    tpot_ms = decode_ms + gap_ms
    e2e_ms = prefill_ms + (NEW_TOKENS - 1) * tpot_ms
    duration_s = NUM_REQUESTS * e2e_ms / 1000
    steps = NUM_REQUESTS * (NEW_TOKENS - 1)
    return {
        "duration_s": duration_s,
        "num_requests": NUM_REQUESTS,
        "num_failed": 0,
        "steady": None,
        "metrics": {
            "tpot_ms.p50": tpot_ms,
            "ttft_ms.p50": prefill_ms,
            "ttft_ms.p99": None,
            "output_tokens_per_s": NUM_REQUESTS * NEW_TOKENS / duration_s,
            "queue_ms.mean": 0.1,
            "e2e_ms.mean": e2e_ms,
        },
        "steps": {
            "prefill/32": {
                "count": NUM_REQUESTS,
                "mean_ms": prefill_ms,
                "total_ms": NUM_REQUESTS * prefill_ms,
            },
            "decode/64": {"count": steps, "mean_ms": decode_ms, "total_ms": steps * decode_ms},
        },
    }


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def enveloped(document: object) -> dict[str, Any]:
    """As ``neuronc bench --json`` prints it."""
    return {
        "report_version": 1,
        "command": "bench",
        "ok": True,
        "data": document,
        "warnings": [],
        "error": None,
    }
