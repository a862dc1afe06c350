"""Linear layers of a decode step by its slots: ``python -m tests.benchmarks.few_rows``.

All linear layers of SmolLM2-135M, random, as one program for the CPU target: as the lowering writes
them, and as `rewrite_for_cpu` does. One process runs both in turns, round by round; medians, lowest to
highest, the ratio, and what reading the weights once would take at the speed of this machine's memory.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from neuronc.bench.roofline.cpu_peaks import measure_cpu
from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.lower.stablehlo_to_hlo import as_jax_function
from neuronc.targets.cpu import COMPILER_OPTIONS
from neuronc.targets.cpu_rewrites import rewrite_for_cpu
from neuronc.trace.program_spec import ProgramSignature, TensorSpec

LAYERS = 30
WEIGHTS = [(960, 576), (576, 576), (3072, 576), (576, 1536)] * LAYERS + [(49152, 576)]


def linear_layers(rows: int, dtype: str) -> tuple[str, ProgramSignature]:
    """``x @ w.T`` for each weight, with an input for each depth: of f32 if weights are quantised."""
    given = dtype if dtype in ("f32", "bf16", "f16") else "f32"
    data = [_spec("x", "data", (rows, depth), given) for depth in sorted({d for _, d in WEIGHTS})]
    weights = [_spec(f"w{n}_", "weight", shape, dtype) for n, shape in enumerate(WEIGHTS)]
    outputs = [_spec(f"y{n}_", "data", (rows, out), given) for n, (out, _) in enumerate(WEIGHTS)]
    body = []
    for weight, y in zip(weights, outputs, strict=True):
        wide = _mlir(replace(weight, dtype=given))
        x = next(x for x in data if x.shape[1] == weight.shape[1])
        if given != dtype:
            body.append(
                f"%c{weight.name} = stablehlo.convert %{weight.name} : ({_mlir(weight)}) -> {wide}"
            )
        w = weight.name if given == dtype else f"c{weight.name}"
        body.append(
            f"%{y.name} = stablehlo.dot_general %{x.name}, %{w}, contracting_dims = [1] x [1]"
            f" : ({_mlir(x)}, {wide}) -> {_mlir(y)}"
        )
    inputs = ", ".join(f"%{t.name}: {_mlir(t)}" for t in data + weights)
    kinds, names = ", ".join(map(_mlir, outputs)), ", ".join(f"%{t.name}" for t in outputs)
    text = "\n".join(
        [
            f"func.func public @main({inputs}) -> ({kinds}) {{",
            *body,
            f"return {names} : {kinds}",
            "}",
        ]
    )
    return text, ProgramSignature(inputs=(*data, *weights), outputs=tuple(outputs), aliases={})


def _spec(name: str, kind: Any, shape: tuple[int, int], dtype: str) -> TensorSpec:
    return TensorSpec(name=f"{name}{shape[1]}", kind=kind, shape=shape, dtype=dtype)


def _mlir(tensor: TensorSpec) -> str:
    return f"tensor<{'x'.join(map(str, tensor.shape))}x{DTYPES[tensor.dtype].mlir}>"


def runner(text: str, signature: ProgramSignature, given: list[Any]) -> Callable[[], float]:
    """Milliseconds that one call takes."""
    function = jax.jit(as_jax_function(text, signature))
    program = function.lower(*given).compile(compiler_options=COMPILER_OPTIONS)

    def run() -> float:
        begin = time.perf_counter()
        jax.block_until_ready(program(*given))
        return 1000 * (time.perf_counter() - begin)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--dtypes", nargs="+", default=["f32", "bf16", "f16", "i8"])
    parser.add_argument("--rows", nargs="+", type=int, default=[2, 4, 8])
    options = parser.parse_args()
    table = Table(title="linear layers of SmolLM2-135M, ms")
    for column in ("dtype", "rows", "rewritten", "as lowered", "ratio", "weights read once"):
        table.add_column(column, justify="right")
    for dtype in options.dtypes:
        for rows in options.rows:
            table.add_row(dtype, str(rows), *measure(dtype, rows, options.rounds))
    Console().print(table)


def measure(dtype: str, rows: int, rounds: int) -> tuple[str, str, str, str]:
    text, signature = linear_layers(rows, dtype)
    rng = np.random.default_rng(0)
    given = [
        jax.device_put(
            rng.standard_normal(t.shape, np.float32).astype(numpy_dtype(DTYPES[t.dtype]))
        )
        for t in signature.inputs
    ]
    both = [
        runner(program, signature, given) for program in (rewrite_for_cpu(text, signature), text)
    ]
    taken: list[list[float]] = [[], []]
    for number in range(rounds + 1):
        for run, found in zip(both, taken, strict=True):
            one = run()
            if number:  # the first round warms up
                found.append(one)
    ratio = statistics.median(b / a for a, b in zip(*taken, strict=True))
    floor_ms = 1000 * sum(x.nbytes for x in given) / measure_cpu().read_bytes_per_s
    spans = [f"{statistics.median(x):.1f} ({min(x):.1f}-{max(x):.1f})" for x in taken]
    return spans[0], spans[1], f"{ratio:.2f}x", f"{floor_ms:.1f}"


if __name__ == "__main__":
    main()
