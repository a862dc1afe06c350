"""The token that a program samples: what the host would choose from the same logits, always."""

from types import SimpleNamespace
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
import torch

from neuronc.lower.finish_stablehlo import finish_stablehlo
from neuronc.lower.ir_dump import IRDump
from neuronc.lower.stablehlo_to_hlo import as_jax_function
from neuronc.lower.torch_to_stablehlo import traced_to_stablehlo
from neuronc.runtime.sampling import greedy
from neuronc.trace.greedy import greedy_tokens
from neuronc.trace.program_spec import ProgramSignature, TensorSpec

Array = np.ndarray[Any, Any]
INF, NAN, VOCAB_SIZE = np.inf, np.nan, 5
ROWS = np.array(
    [
        [1, 3, 2, 0, -1],
        [3, 3, 3, 3, 3],
        [-4, -2, -9, -2, -2],  # a tie below zero
        [0.0, -0.0, -1, -1, 0.0],
        [-1, -INF, -INF, -2, -INF],
        [1, NAN, 2, 9, 0],
        [NAN, 1, 2, 3, 4],
        [1, 2, 3, 4, -NAN],
        [NAN] * 5,
        [1, INF, 2, INF, 0],
        [-INF] * 5,
        [1, INF, NAN, 0, 0],
    ],
    dtype=np.float32,
)
EXPECTED = [1, 0, 1, 0, 0, 5, 5, 5, 5, 5, 5, 5]
TYPES = {
    "f32": (torch.float32, np.dtype(np.float32)),
    "bf16": (torch.bfloat16, np.dtype(ml_dtypes.bfloat16)),
    "f16": (torch.float16, np.dtype(np.float16)),
}


class _Sampler(torch.nn.Module):
    def forward(self, logits: torch.Tensor) -> tuple[torch.Tensor]:
        return (greedy_tokens(logits),)


def lowered(rows: int, vocab_size: int, dtype: str) -> str:
    inputs = (torch.zeros(rows, vocab_size, dtype=TYPES[dtype][0]),)
    exported = torch.export.export(_Sampler(), inputs, strict=False)
    traced: Any = SimpleNamespace(exported=exported, bodies={})
    return finish_stablehlo(traced_to_stablehlo(traced, IRDump(None)), tp=1)


def run_lowered(logits: Array, dtype: str) -> list[int]:
    given = TensorSpec(name="logits", kind="data", shape=logits.shape, dtype=dtype)
    tokens = TensorSpec(name="tokens", kind="data", shape=logits.shape[:1], dtype="i32")
    signature = ProgramSignature(inputs=(given,), outputs=(tokens,), aliases={})
    rows, vocab_size = logits.shape
    text = lowered(rows, vocab_size, dtype)
    (found,) = jax.jit(as_jax_function(text, signature))(logits)
    return [int(token) for token in found]


def test_the_host_takes_the_first_of_the_largest_and_none_that_is_not_finite() -> None:
    assert [greedy(row) for row in ROWS] == EXPECTED
    finite = [row for row, token in zip(ROWS, EXPECTED, strict=True) if token < VOCAB_SIZE]
    assert [greedy(row) for row in finite] == [int(np.argmax(row)) for row in finite]


@pytest.mark.parametrize("dtype", TYPES)
def test_the_program_chooses_as_the_host_does(dtype: str) -> None:
    rows = ROWS.astype(TYPES[dtype][1])
    eager = greedy_tokens(torch.tensor(ROWS).to(TYPES[dtype][0]))
    assert eager.dtype == torch.int32
    assert eager.tolist() == EXPECTED
    assert run_lowered(rows, dtype) == EXPECTED


@pytest.mark.parametrize("dtype", TYPES)
def test_random_rows_with_many_ties(dtype: str) -> None:
    logits = np.random.default_rng(0).integers(-4, 4, (64, 300)).astype(TYPES[dtype][1])
    assert run_lowered(logits, dtype) == [greedy(row) for row in logits]


def test_what_a_maximum_makes_of_nan_does_not_matter() -> None:
    """The values that are compared have no NaN: a select comes before the first reduction."""
    text = lowered(2, 7, "f32")
    reduction = next(line for line in text.splitlines() if "stablehlo.maximum" in line)
    operand = reduction.split("stablehlo.reduce(")[1].split()[0]
    (source,) = (line for line in text.splitlines() if line.strip().startswith(f"{operand} = "))
    assert "stablehlo.select" in source
    assert "compare GE" in text


def test_it_takes_neither_sorts_nor_reductions_of_several_tensors() -> None:
    text = lowered(2, 7, "bf16")
    assert text.count("stablehlo.reduce(") == 2
    assert "sort" not in text
    assert "custom_call" not in text
    assert "i64" not in text
