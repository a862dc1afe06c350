"""A linear layer as the lowering writes it, and what XLA:CPU makes of it."""

from typing import Any

import jax
import numpy as np

from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.lower.stablehlo_to_hlo import as_jax_function
from neuronc.targets.cpu import COMPILER_OPTIONS
from neuronc.trace.program_spec import ProgramSignature, TensorSpec

OUT = 256


def linear_program(
    rows: int, depth: int, dtype: str, *, weight_rows: bool = True, added: str = ""
) -> tuple[str, ProgramSignature]:
    """``x @ w.T`` or ``x @ w``, as the lowering writes it; ``constant`` or ``product`` is added."""
    weight = (OUT, depth) if weight_rows else (depth, OUT)
    x, w, y = (f"tensor<{a}x{b}x{dtype}>" for a, b in ((rows, depth), weight, (rows, OUT)))
    product = f"%w, contracting_dims = [1] x [{int(weight_rows)}] : ({x}, {w}) -> {y}"
    lines = {
        "": "",
        "constant": f"""%c = stablehlo.constant dense<1.5> : {y}
                        %sum = stablehlo.add %y, %c : {y}""",
        "product": f"""%e = stablehlo.exponential %x : {x}
                       %z = stablehlo.dot_general %e, {product}
                       %sum = stablehlo.add %y, %z : {y}""",
    }
    text = f"""
    func.func public @main(%x: {x}, %w: {w}) -> {y} {{
      %y = stablehlo.dot_general %x, {product}
      {lines[added]}
      return {"%sum" if added else "%y"} : {y}
    }}"""
    inputs = (
        TensorSpec(name="x", kind="data", shape=(rows, depth), dtype=dtype),
        TensorSpec(name="w", kind="weight", shape=weight, dtype=dtype),
    )
    output = TensorSpec(name="y", kind="data", shape=(rows, OUT), dtype=dtype)
    return text, ProgramSignature(inputs=inputs, outputs=(output,), aliases={})


def compiled(text: str, signature: ProgramSignature, *, in_place: bool = False) -> Any:
    shapes = [jax.ShapeDtypeStruct(t.shape, numpy_dtype(DTYPES[t.dtype])) for t in signature.inputs]
    donated = tuple(signature.aliases.values()) if in_place else ()
    function = as_jax_function(text, signature)
    lowered = jax.jit(function, donate_argnums=donated).lower(*shapes)
    return lowered.compile(compiler_options=COMPILER_OPTIONS)


def random_inputs(signature: ProgramSignature) -> list[Any]:
    rng = np.random.default_rng(0)
    return [
        rng.standard_normal(t.shape).astype(numpy_dtype(DTYPES[t.dtype])) for t in signature.inputs
    ]


def worst_error(text: str, signature: ProgramSignature) -> float:
    x, w = random_inputs(signature)
    found = np.asarray(compiled(text, signature)(x, w)[0]).astype(np.float64)
    expected = x.astype(np.float64) @ w.astype(np.float64).T
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def temporary_bytes(text: str, signature: ProgramSignature) -> int:
    """What XLA keeps in memory between inputs and outputs."""
    return int(compiled(text, signature).memory_analysis().temp_size_in_bytes)


def loop_of(program: str, signature: ProgramSignature) -> str:
    """What XLA computes for every element of the product: the fusion that the product is in."""
    found: str = compiled(program, signature).as_text()
    parts = found.split("\n\n")
    return next(part for part in parts if " dot(" in part and not part.startswith("ENTRY"))
