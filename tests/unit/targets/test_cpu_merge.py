from typing import Any

import numpy as np
import pytest

from neuronc.targets.cpu_merge import merge_inputs, merge_linears
from neuronc.trace.program_spec import ProgramSignature, TensorSpec
from tests.unit.targets.linear_programs import compiled

IN, OUTS = 8, {"up": 6, "gate": 4, "other": 3}


def program(*, second_input: str = "%x", also_read: bool = False) -> tuple[str, ProgramSignature]:
    """``gate`` and ``up`` of ``x`` (``gate`` first), ``other`` of ``y``, a cache passed through."""
    x, cache = f"tensor<2x{IN}xf32>", "tensor<5xf32>"
    weights = {name: f"tensor<{out}x{IN}xf32>" for name, out in OUTS.items()}
    results = {name: f"tensor<2x{out}xf32>" for name, out in OUTS.items()}
    dots = "\n".join(
        f"%{name}_y = stablehlo.dot_general {value}, %{name}, contracting_dims = [1] x [1]"
        f" : ({x}, {weights[name]}) -> {results[name]}"
        for name, value in (("gate", "%x"), ("up", second_input), ("other", "%y"))
    )
    extra = f"%e = stablehlo.add %up, %up : {weights['up']}" if also_read else ""
    returned = [*(results[n] for n in OUTS), cache, *([weights["up"]] if also_read else [])]
    arguments = ", ".join(f"%{n}: {t}" for n, t in weights.items())
    text = f"""
    func.func public @main({arguments}, %cache: {cache}, %x: {x}, %y: {x})
        -> ({", ".join(returned)}) {{
      {dots}
      {extra}
      return {", ".join(f"%{n}_y" for n in OUTS)}, %cache {", %e" if also_read else ""}
        : {", ".join(returned)}
    }}"""
    inputs = (
        *(TensorSpec(name=n, kind="weight", shape=(o, IN), dtype="f32") for n, o in OUTS.items()),
        TensorSpec(name="cache", kind="cache", shape=(5,), dtype="f32"),
        *(TensorSpec(name=n, kind="data", shape=(2, IN), dtype="f32") for n in "xy"),
    )
    outputs = (
        *(TensorSpec(name=n, kind="data", shape=(2, o), dtype="f32") for n, o in OUTS.items()),
        TensorSpec(name="cache", kind="cache", shape=(5,), dtype="f32"),
        *([TensorSpec(name="e", kind="data", shape=(6, IN), dtype="f32")] if also_read else []),
    )
    return text, ProgramSignature(inputs=inputs, outputs=outputs, aliases={3: 3})


def values(signature: ProgramSignature) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {t.name: rng.standard_normal(t.shape, dtype=np.float32) for t in signature.inputs}


def test_products_of_one_input_become_one_with_the_results_they_had() -> None:
    text, signature = program()
    merged_text, merged = merge_linears(text, signature)
    assert merged == (("up", "gate"),)
    assert merged_text.count("stablehlo.dot_general") == 2
    given = values(signature)
    expected = compiled(text, signature)(*given.values())
    laid = {**given, "up": np.concatenate([given["up"], given["gate"]])}
    del laid["gate"]
    found = compiled(merged_text, merge_inputs(signature, merged))(*laid.values())
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_inputs_and_aliases_close_ranks() -> None:
    signature = merge_inputs(program()[1], (("up", "gate"),))
    assert [(t.name, t.shape) for t in signature.inputs[:3]] == [
        ("up", (10, IN)), ("other", (3, IN)), ("cache", (5,))
    ]  # fmt: skip
    assert signature.aliases == {3: 2}


@pytest.mark.parametrize("options", [{"second_input": "%y"}, {"also_read": True}])
def test_other_inputs_and_weights_read_twice_are_left_alone(options: dict[str, Any]) -> None:
    text, signature = program(**options)
    merged = merge_linears(text, signature)[1]
    assert merged == ((("up", "other"),) if "second_input" in options else ())
    if not merged:
        assert merge_inputs(signature, merged) == signature
