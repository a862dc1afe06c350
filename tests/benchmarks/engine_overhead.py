"""What the host adds to a decode step: scheduling, sampling, recording. No model runs.

    python -m tests.benchmarks.engine_overhead

The session hands out logits that were made before, so all the time of a step is the engine's, the
sampler's and the recorder's. The limit is 0.5 ms a step with 8 slots.
"""

import time
from statistics import median
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
from rich.console import Console
from rich.table import Table

from neuronc.bench.recorder import Recorder
from neuronc.runtime.engine import Engine
from neuronc.runtime.request import Request

SLOTS, NEW_TOKENS, ROUNDS = 8, 200, 5
VOCABULARIES = (49_152, 128_256)
DTYPES = {"f32": np.float32, "bf16": ml_dtypes.bfloat16, "f16": np.float16}


def main() -> None:
    table = Table(title=f"host time of a decode step with {SLOTS} slots, greedy")
    for column in ("vocabulary", "logits", "median ms", "p99 ms"):
        table.add_column(column, justify="right")
    for vocab_size in VOCABULARIES:
        for name, dtype in DTYPES.items():
            steps_ms = [ms for _ in range(ROUNDS) for ms in measure(vocab_size, dtype)]
            p99 = float(np.percentile(steps_ms, 99))
            table.add_row(str(vocab_size), name, f"{median(steps_ms):.3f}", f"{p99:.3f}")
    Console().print(table)


def measure(vocab_size: int, dtype: Any) -> list[float]:
    """Milliseconds of each decode step."""
    logits = np.random.default_rng(0).standard_normal((SLOTS, vocab_size)).astype(dtype)
    session: Any = SimpleNamespace(
        batch_size=SLOTS,
        max_length=4096,
        vocab_size=vocab_size,
        samples_on_device=False,
        next_chunk=lambda done, total: (done, total),
        prefill_bucket=lambda count: count,
        decode_bucket=lambda _: 4096,
        prefill=lambda slot, *_, **__: logits[slot],
        decode=lambda *_, **__: logits,
    )
    recorder = Recorder()
    engine = Engine(session, on_step=recorder)
    for number in range(SLOTS):
        prompt = (1, 2, 3)
        engine.submit(Request(request_id=str(number), prompt_ids=prompt, max_new_tokens=NEW_TOKENS))
    for _ in range(SLOTS):
        engine.step()
    taken_ms = []
    with recorder.watching():
        while engine.has_work:
            begin_ns = time.perf_counter_ns()
            engine.step()
            taken_ms.append((time.perf_counter_ns() - begin_ns) / 1e6)
    return taken_ms


if __name__ == "__main__":
    main()
