"""AwsNeuronTopK on request: where it stands, what stands for it on XLA:CPU, and nothing else."""

from collections import Counter
from typing import Any

import jax
import numpy as np
import pytest

from neuronc.errors import UsageError
from neuronc.lower.stablehlo_to_hlo import as_jax_function
from neuronc.targets.neuron.hlo.schema import LEGACY
from neuronc.targets.neuron.hlo.to_stablehlo import to_stablehlo
from neuronc.targets.neuron.hlo.top_k_calls import count_calls, require_calls, with_rounds
from tests.doubles.strict_hlo import read_strictly
from tests.doubles.top_k_call import TARGET, run_calls
from tests.hlo_programs import from_text, legal_module, runner, signature_of
from tests.unit.targets.neuron.hlo.rewrites.test_top_k import torch_top_k

# as torch-mlir writes it, between other operators
ROUTER = """HloModule m
by {
  a = f32[] parameter(0)
  b = f32[] parameter(1)
  i = s64[] parameter(2)
  j = s64[] parameter(3)
  ROOT c = pred[] compare(a, b), direction=GT
}
add {
  l = f32[] parameter(0)
  r = f32[] parameter(1)
  ROOT t = f32[] add(l, r)
}
ENTRY e {
  x = f32[3,8] parameter(0)
  twice = f32[3,8] add(x, x)
  n = s64[8] iota(), iota_dimension=0
  p = s64[3,8] broadcast(n), dimensions={1}
  s = (f32[3,8], s64[3,8]) sort(twice, p), dimensions={1}, to_apply=by
  v = f32[3,8] get-tuple-element(s), index=0
  q = s64[3,8] get-tuple-element(s), index=1
  v0 = f32[3,2] slice(v), slice={[0:3], [0:2]}
  q0 = s64[3,2] slice(q), slice={[0:3], [0:2]}
  zero = f32[] constant(0)
  sum = f32[3] reduce(v0, zero), dimensions={1}, to_apply=add
  wide = f32[3,2] broadcast(sum), dimensions={0}
  share = f32[3,2] divide(v0, wide)
  ROOT o = (f32[3,2], s64[3,2]) tuple(share, q0)
}
"""


def pair(hlo: bytes) -> tuple[Any, Any]:
    """The program legalised with rounds, and with the call."""
    rounds, call = (legal_module(hlo, num_outputs=2, top_k_call=on) for on in (False, True))
    return rounds, call


def lines(module: Any, *, without: str = "") -> list[tuple[Any, ...]]:
    """Instructions of the entry that do not stand for ``without``, with names for numbers."""
    entry = module.computations[-1]
    names = {i.id: i.name for i in entry.instructions}
    found = []
    for instruction in entry.instructions:
        if without and instruction.name.startswith(f"{without}."):
            continue
        operands = [names[n] for n in instruction.operand_ids]
        shown = type(instruction).FromString(instruction.SerializeToString())
        for field in ("id", "operand_ids", "called_computation_ids"):
            shown.ClearField(field)
        called = [_body(module, n) for n in instruction.called_computation_ids]
        kept = [n if not n.startswith(f"{without}.") else "top-k" for n in operands]
        found.append((shown.SerializeToString(deterministic=True), kept, called))
    return found


def _body(module: Any, number: int) -> list[str]:
    (body,) = (c for c in module.computations if c.id == number)
    return [i.opcode for i in body.instructions]


def test_the_two_programs_differ_in_nothing_but_top_k() -> None:
    rounds, call = pair(from_text(ROUTER))
    (sort,) = {i.name.split(".custom-call")[0] for i in calls_of(call)}
    assert lines(rounds, without=sort) == lines(call, without=sort)
    assert len(lines(call)) < len(lines(rounds))
    own = {i.opcode for i in call.computations[-1].instructions if i.name.startswith(f"{sort}.")}
    assert own == {"custom-call", "get-tuple-element", "convert"}


def calls_of(module: Any) -> list[Any]:
    return [
        i for c in module.computations for i in c.instructions if i.custom_call_target == TARGET
    ]


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_the_call_is_the_documented_one(dtype: str) -> None:
    _, legal = pair(torch_top_k(size=40, last=3, dtype=dtype))
    raw = legal.SerializeToString()
    assert count_calls(raw) == 1
    require_calls(raw)
    read_strictly(raw)
    (call,) = calls_of(legal)
    assert call.backend_config == b"3"
    assert [list(s.dimensions) for s in call.shape.tuple_shapes] == [[2, 3], [2, 3]]
    assert call.shape.tuple_shapes[1].element_type == 8  # u32


def test_what_stands_for_it_on_the_cpu_is_the_program_with_rounds() -> None:
    rounds, call = pair(from_text(ROUTER))
    written = LEGACY.FromString(with_rounds(call.SerializeToString()))
    read_strictly(written.SerializeToString())
    assert not calls_of(written)
    more, less = opcodes(written) - opcodes(rounds), opcodes(rounds) - opcodes(written)
    assert (set(more), less) == ({"convert"}, Counter())  # places are u32 of the call, then s32
    x = np.random.default_rng(0).integers(-3, 3, (3, 8)).astype(np.float32)  # many are equal
    outputs = [x[:, :2], np.zeros((3, 2), np.int32)]
    found = [runner(m.SerializeToString(), outputs)(x) for m in (written, rounds)]
    double = run_calls(to_stablehlo(call.SerializeToString()))
    signature = signature_of([], outputs)
    found.append(tuple(jax.jit(as_jax_function(double, signature))(x)))
    for one, other, third in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, third)
    assert with_rounds(rounds.SerializeToString()) == rounds.SerializeToString()


def opcodes(module: Any) -> Counter[str]:
    return Counter(i.opcode for c in module.computations for i in c.instructions)


@pytest.mark.parametrize(
    "hlo",
    [
        torch_top_k(size=40, direction="LT"),
        torch_top_k(size=40, dtype="s32"),
        torch_top_k(size=40, first=2),
    ],
    ids=["the least", "of integers", "not from the start"],
)
def test_what_the_call_cannot_say_is_written_out(hlo: bytes) -> None:
    rounds, call = pair(hlo)
    assert call == rounds
    with pytest.raises(UsageError, match="takes no top-k that AwsNeuronTopK could") as caught:
        require_calls(call.SerializeToString())
    assert "leave out --top-k-call" in caught.value.hint


def _integers(call: Any, x: Any) -> None:
    x.shape.element_type = 4


def _config(call: Any, x: Any) -> None:
    call.backend_config = b'{"k": 3}'


def _too_many(call: Any, x: Any) -> None:
    call.backend_config = b"41"


def _signed(call: Any, x: Any) -> None:
    call.shape.tuple_shapes[1].element_type = 4


def _no_tuple(call: Any, x: Any) -> None:
    call.shape.CopyFrom(call.shape.tuple_shapes[0])


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_integers, "NCC_EVRF013 TopK does not support"),
        (_config, "backend_config"),
        (_too_many, "backend_config '41'"),
        (_signed, r"not \(values, u32 places\)"),
        (_no_tuple, r"not \(values, u32 places\)"),
    ],
)
def test_the_double_refuses_other_calls(spoil: Any, told: str) -> None:
    _, legal = pair(torch_top_k(size=40, last=3))
    (call,) = calls_of(legal)
    entry = legal.computations[-1]
    spoil(call, next(i for i in entry.instructions if i.id == call.operand_ids[0]))
    with pytest.raises(ValueError, match=told):
        read_strictly(legal.SerializeToString())
