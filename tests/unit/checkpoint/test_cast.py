from typing import Any

import ml_dtypes
import numpy as np
import pytest

from neuronc.checkpoint.cast import cast
from neuronc.dtypes import DTYPES, numpy_dtype

VALUES = np.array([0.0, -1.5, 3.1e-5, 65504.0, np.inf, -np.inf, np.nan], np.float32)


@pytest.mark.parametrize("to", ["f32", "bf16", "f16"])
def test_values_are_rounded_as_numpy_rounds_them(to: str) -> None:
    expected = VALUES.astype(numpy_dtype(DTYPES[to]))
    assert cast(VALUES, DTYPES[to]).tobytes() == expected.tobytes()


def test_what_has_the_dtype_already_is_not_copied() -> None:
    assert cast(VALUES, DTYPES["f32"]) is VALUES


@pytest.mark.parametrize(
    ("value", "kind", "to"),
    [
        (65520.0, np.float32, "f16"),
        (1e300, np.float64, "f32"),
        (1e39, np.float64, "bf16"),
        (3.4e38, np.float32, "bf16"),
        (1e30, ml_dtypes.bfloat16, "f16"),
    ],
)
def test_a_finite_value_that_would_become_infinite_is_refused(
    value: float, kind: Any, to: str
) -> None:
    with pytest.raises(OverflowError, match=f"too large for {to}"):
        cast(np.array([1.0, value, np.inf], kind), DTYPES[to])


@pytest.mark.parametrize("to", ["bf16", "f16"])
def test_every_16_bit_value_survives_f32_and_back(to: str) -> None:
    kind = numpy_dtype(DTYPES[to])
    all_values = np.arange(2**16, dtype=np.uint16).view(kind)
    numbers = all_values[~np.isnan(all_values.astype(np.float32))]

    back = cast(cast(numbers, DTYPES["f32"]), DTYPES[to])

    assert back.tobytes() == numbers.tobytes()
