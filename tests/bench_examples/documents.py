"""Seeded example documents of the schema neuronc.bench/1, from simulated timelines."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from tests.bench_examples.run_sets import run_set, step_ms
from tests.bench_examples.simulate import (
    DECODE_BUCKETS,
    PREFILL_BUCKETS,
    Json,
    Load,
    simulate,
)
from tests.bench_examples.summarise import distribution

SLO = {"ttft_ms": 250.0, "tpot_ms": 25.0}
DEFINITIONS = {
    "ttft_ms": "t_1 - t_sched: first token readable on the host, from the scheduled arrival.",
    "tpot_ms": "(t_n - t_1) / (n - 1) of each request; undefined for n = 1.",
    "itl_ms": "t_(j+1) - t_j, every gap between tokens, all requests pooled.",
    "e2e_ms": "t_n - t_sched.",
    "output_tokens_per_s": "Generated tokens / duration; prompt and padding never count.",
    "goodput_requests_per_s": "Requests that met every objective / duration.",
    "occupancy": "Busy slots x time / (slots x time of all steps).",
    "pad_waste": "1 - prompt tokens / tokens of the prefill buckets they ran in.",
    "mbu": "Bytes a step must read / (its time x measured read bandwidth).",
    "mfu": "Floating-point operations needed / (step time x measured peak).",
}


def decoder(*, seed: int = 0, noise_seed: int = 0, slow_down: float = 1.0) -> Json:
    """What `neuronc bench ARTIFACT` alone gives: steps, latency and throughput.

    ``seed`` decides the workload, ``noise_seed`` what the machine does to the same workload.
    """
    modes: Json = {"steps": {"cells": cells(slow_down)}}
    timelines: list[Json] = []
    for mode, concurrency in (("latency", 1), ("throughput", 4)):
        load = Load(num_requests=24, concurrency=concurrency)
        timelines = _repeats(
            load, seed=seed + concurrency, noise_seed=noise_seed, slow_down=slow_down
        )
        modes[mode] = run_set(mode, timelines, load)
    return document(modes, timelines[-1])


def serve(*, seed: int = 7) -> Json:
    """An open loop with objectives, failures, stalls and slow steps."""
    load = Load(num_requests=160, rate=2.2, failing=0.02, spike=0.01)
    timelines = _repeats(load, seed=seed)
    made = document({"serve": run_set("serve", timelines, load, slo=SLO)}, timelines[-1])
    made["workload"] |= {"arrival": "poisson", "rate": 2.2, "concurrency": None}
    made["caveats"].append("3 requests failed; they count as missed and are in no latency")
    return made


def sweep(*, seed: int = 20) -> Json:
    """Serve over rates, with the knee and the largest rate that meets the objectives."""
    points: list[Json] = []
    timelines: list[Json] = []
    for index, rate in enumerate((0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)):
        load = Load(num_requests=70, rate=rate)
        timelines = _repeats(load, seed=seed + 100 * index, num=3)
        points.append({"at": rate, "runs": run_set("serve", timelines, load, slo=SLO)})
    made = document({"sweep": {"by": "rate", "points": points}}, timelines[-1])
    best = max((p for p in points if _share(p) >= 0.9), key=lambda p: float(p["at"]))
    made["modes"]["sweep"] |= {
        "knee": {"at": 2.5, "why": "above it output tokens per second grow by less than 10 %"},
        "best": {"at": best["at"], "attainment": best["runs"]["slo"]["joint"]},
    }
    made["workload"] |= {"arrival": "poisson", "rate": 0.5, "concurrency": None}
    return made


def few(*, seed: int = 3) -> Json:
    """One short run of one new token each: nearly everything is null, each with its reason."""
    load = Load(num_requests=3, concurrency=1, new_tokens=(1, 1))
    timelines = _repeats(load, seed=seed, num=1)
    made = document({"latency": run_set("latency", timelines, load)}, None)
    made["machine"] = None
    made["workload"] |= {"new_tokens": "fixed:1", "num_requests": 3, "concurrency": 1}
    made["fingerprint"]["model"]["source"] = None
    for summary in made["modes"]["latency"]["steps"].values():
        summary |= {"mbu": None, "mfu": None}
    for estimated in made["modes"]["latency"]["estimates"].values():
        estimated |= {"low": None, "high": None}
    made["caveats"] = ["one new token has no successor, so tpot_ms and itl_ms are null"]
    return made


def noisy(*, seed: int = 11) -> Json:
    """A decoder run beside other work."""
    made = decoder(seed=seed, slow_down=1.3)
    findings = [
        "5,210 involuntary switches in 21 s; on a quiet machine it is a few per second",
        "spin probe: largest gap 11.8 ms, so a step of 14 ms may hold a foreign time slice",
    ]
    made["noise"] |= {"noisy": True, "findings": findings}
    return made | {"status": "noisy"}


def invalid(*, seed: int = 5) -> Json:
    """A run whose tokens differ from the reference: no number of it may be quoted."""
    problems = ["request r3: token 17 is 4021, the artifact's reference has 388 (f32: identical)"]
    made = decoder(seed=seed)
    made["validation"] |= {"valid": False, "problems": problems}
    return made | {"status": "invalid"}


EXAMPLES: Mapping[str, Callable[[], Json]] = {
    "decoder": decoder,
    "serve": serve,
    "sweep": sweep,
    "few": few,
    "noisy": noisy,
    "invalid": invalid,
}


@cache
def _example_text(name: str) -> str:
    return json.dumps(EXAMPLES[name](), allow_nan=False)


def example(name: str) -> Json:
    """An example to do with as one likes; made once for each process."""
    made: Json = json.loads(_example_text(name))
    return made


def document(modes: Json, timeline: Json | None) -> Json:
    """All but the modes, which are given."""
    classes = [f"prefill/{b}" for b in PREFILL_BUCKETS] + [f"decode/{b}" for b in DECODE_BUCKETS]
    return {
        "schema": "neuronc.bench/1",
        "status": "ok",
        "headline": "CPU target (XLA:CPU, not a Neuron device)",
        "ran_on": "cpu",
        "fingerprint": _fingerprint(),
        "environment": {
            "cpu_model": "Example CPU @ 2.5 GHz",
            "physical_cores": 2,
            "logical_cores": 2,
            "threads_visible": 2,
            "memory_bytes": 16_000_000_000,
            "platform": "Linux 6.1 x86_64",
            "python": "3.11.7",
            "packages": {"jaxlib": "0.10.2", "numpy": "2.3.1"},
            "load_average_1min": 0.21,
        },
        "definitions": dict(DEFINITIONS),
        "workload": {
            "prompt_tokens": "uniform:16,300",
            "new_tokens": "uniform:24,96",
            "num_requests": 24,
            "seed": 0,
            "arrival": "closed",
            "rate": None,
            "concurrency": 4,
            "ignore_eos": True,
            "prefill_policy": "first",
        },
        "load": {
            "load_s": 0.41,
            "first_call_ms": {name: 20.0 + 7 * i for i, name in enumerate(classes)},
            "peak_rss_bytes": 900_000_000,
            "device": None,
        },
        "machine": {
            "read_bytes_per_s": 4.4e10,
            "flops_per_s": {"f32": 1.4e12, "bf16": 2.6e12},
            "source": "measured",
        },
        "modes": modes,
        "noise": {
            "noisy": False,
            "findings": [],
            "before": {"load_average_1min": 0.21, "steal_share": 0.0, "spin_gap_ms": 0.08},
            "after": {"load_average_1min": 1.64, "steal_share": 0.0, "spin_gap_ms": 0.11},
        },
        "validation": {
            "valid": True,
            "problems": [],
            "tokens_checked": 2874,
            "tokens_with_reference": 512,
            "tokens_within_margin": 3,
            "tokens_not_repeated": 0,
            "source": "recorded by verify",
            "requests": 96,
            "requests_checked": 90,
            "tokens_alone": 2874,
        },
        "caveats": ["p99_9 of ttft_ms rests on few samples; try --num-requests 1000"],
        "timeline": timeline,
    }


def cells(slow_down: float = 1.0) -> list[Json]:
    """Every prefill bucket and every decode cell, with a roofline of the example machine."""
    made = [_cell("prefill", b, 1, b, b, 5 + 0.28 * b, slow_down) for b in PREFILL_BUCKETS]
    for bucket in DECODE_BUCKETS:
        for active in (1, 2, 4):
            ms = 12.5 + 0.004 * bucket + 0.3 * active
            made.append(_cell("decode", bucket, active, bucket * 3 // 4, active, ms, slow_down))
    return made


def _repeats(
    load: Load, *, seed: int, noise_seed: int = 0, num: int = 5, slow_down: float = 1.0
) -> list[Json]:
    """One workload, repeated: the same arrivals and lengths, other noise."""
    return [
        simulate(
            load,
            seed=seed + 100 * noise_seed + k,
            arrivals=seed,
            slow_down=slow_down * (1 + 0.004 * (k % 3)),
        )
        for k in range(num)
    ]


def _share(point: Json) -> float:
    return float(point["runs"]["slo"]["joint"]["attainment"])


def _cell(
    phase: str, bucket: int, active: int, context: int, tokens: int, ms: float, slow_down: float
) -> Json:
    simulated = simulate(Load(num_requests=1, new_tokens=(24, 24)), seed=bucket + active)
    noise = [step_ms(s) / 14 for s in simulated["steps"] if s["phase"] == "decode"][:20]
    spread = distribution([ms * slow_down * n for n in noise])
    mean_s = spread["mean"] / 1000
    moved, flops = 5.4e8 + 4e4 * bucket * active, 2.7e8 * tokens + 2e4 * tokens * context
    floor_ms = 1000 * max(moved / 4.4e10, flops / 1.4e12)
    return {
        "class": f"{phase}/{bucket}",
        "phase": phase,
        "bucket": bucket,
        "active_slots": active,
        "context": context,
        "tokens": tokens,
        "n": len(noise),
        "ms": spread,
        "tokens_per_s": tokens / mean_s,
        "bytes": moved,
        "flops": flops * (4 / active if phase == "decode" else 1),
        "needed_bytes": moved * 0.98,
        "needed_flops": flops,
        "intensity": flops * (4 / active if phase == "decode" else 1) / moved,
        "mbu": moved / mean_s / 4.4e10,
        "mfu": flops / mean_s / 1.4e12,
        "floor_ms": floor_ms,
        "over_floor": spread["percentiles"]["p50"]["value"] / floor_ms,
    }


def _fingerprint() -> dict[str, Any]:
    return {
        "artifact_digest": "3f" * 32,
        "weights_digest": "a7" * 32,
        "model": {"model_type": "llama", "source": "example/tiny-135m", "config_sha256": "1b" * 32},
        "target": "cpu",
        "tp": 1,
        "batch_size": 4,
        "max_length": 512,
        "dtype": "f32",
        "quantize": None,
        "prefill_buckets": list(PREFILL_BUCKETS),
        "decode_buckets": list(DECODE_BUCKETS),
        "tool_versions": {"jaxlib": "0.10.2", "torch": "2.13.0"},
        "verified": True,
    }
