"""The comparison of logits: every number against its definition, and every way to fail."""

import numpy as np
import pytest

from neuronc.dtypes import DTYPES
from neuronc.verify.compare import (
    FACTOR,
    Array,
    Comparison,
    LogitsRow,
    compare_rows,
    tolerance_ulp,
)

REFERENCE = np.array([1.0, 4.0, -2.0, 0.5])


def compare(*pairs: tuple[Array, Array], dtype: str = "f32") -> Comparison:
    rows = [
        LogitsRow(phase="decode", bucket=8, slot=n, position=5, compiled=a, reference=b)
        for n, (a, b) in enumerate(pairs)
    ]
    return compare_rows(rows, dtype=dtype, num_layers=4)


def test_equal_logits_pass_with_no_error() -> None:
    found = compare((REFERENCE, REFERENCE))
    assert found.passed
    assert (found.max_abs_error, found.max_ulp, found.max_kl) == (0.0, 0.0, 0.0)
    assert found.top1_agreement == 1.0


def test_error_is_relative_to_the_largest_logit_and_counted_in_ulp() -> None:
    found = compare((REFERENCE + np.array([0.0, 0.0, 2.0**-20, 0.0]), REFERENCE))
    assert found.max_abs_error == pytest.approx(2.0**-20)
    assert found.max_relative_error == pytest.approx(2.0**-20 / 4.0)
    assert found.max_ulp == pytest.approx(2.0**-22 / 2.0**-23)


def test_an_error_beyond_the_tolerance_names_the_first_place() -> None:
    allowed = tolerance_ulp(None, 4) * 2.0**-23 * 4.0
    inside, beyond = (REFERENCE + np.array([0, 0, allowed * f, 0]) for f in (0.99, 1.01))
    assert compare((inside, REFERENCE)).passed
    found = compare((inside, REFERENCE), (beyond, REFERENCE), (beyond, REFERENCE))
    assert found.first_divergence == "decode_8, slot 1, position 5"
    assert found.by_program["decode_8"]["rows"] == 3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_fail(bad: float) -> None:
    found = compare((np.array([1.0, 4.0, bad, 0.5]), REFERENCE))
    assert not found.passed
    assert found.max_ulp == np.inf
    assert found.top1_agreement == 0.0


def test_a_near_tie_is_called_a_tie_and_a_wrong_token_is_not() -> None:
    tied = np.array([4.0, 4.0 - 1e-6, 0.0, 0.0])
    found = compare((tied[[1, 0, 2, 3]], tied))
    assert found.passed
    assert (found.num_ties, found.top1_agreement) == (1, 1.0)
    found = compare((np.array([4.5, 4.0, -2.0, 0.5]), REFERENCE))
    assert (found.num_ties, found.top1_agreement) == (0, 0.0)
    assert not found.passed


def test_kl_divergence_is_that_of_the_softmax_distributions() -> None:
    other = np.array([1.5, 3.0, -2.0, 0.0])
    p, q = (np.exp(x) / np.exp(x).sum() for x in (REFERENCE, other))
    assert compare((other, REFERENCE)).max_kl == pytest.approx(float((p * np.log(p / q)).sum()))


def test_the_tolerance_of_f32_grows_with_depth() -> None:
    assert tolerance_ulp(None, 30) > tolerance_ulp(None, 2)


def test_one_row_beyond_the_largest_error_is_named() -> None:
    rows = [*bf16_rows(0.5, 3.0, 3.0), *bf16_rows(FACTOR * 3 * 1.01, 3.0)]

    found = compare_rows(rows, dtype="bf16", num_layers=4)

    assert found.first_divergence == "decode_8, slot 0, position 5"


def test_one_row_that_rounding_changes_does_not_excuse_the_others() -> None:
    """As where transformers in bf16 picks another expert for one token."""
    rows = [*bf16_rows(0.9, 50.0, 0.8, 0.7), *bf16_rows(40.0, 0.9)]
    assert compare_rows(rows, dtype="bf16", num_layers=4).passed

    rows = [*bf16_rows(30.0, 50.0, 0.8, 0.7), *bf16_rows(40.0, 0.9)]
    found = compare_rows(rows, dtype="bf16", num_layers=4)
    assert found.max_ulp < found.tolerance_ulp
    assert not found.passed
    assert str(found.first_divergence).startswith("the median of 4 rows, 30 ulp")


def bf16_rows(compiled_ulp: float, *own_ulp: float) -> list[LogitsRow]:
    """Rows whose third logit is off by so many bf16 ulp, in transformers and compiled."""
    ulp = np.array([0, 0, DTYPES["bf16"].eps * 4.0, 0])
    return [
        LogitsRow(
            phase="decode",
            bucket=8,
            slot=n,
            position=5,
            compiled=REFERENCE + compiled_ulp * ulp,
            reference=REFERENCE,
            same_dtype=REFERENCE + own * ulp,
        )
        for n, own in enumerate(own_ulp)
    ]


@pytest.mark.parametrize(
    ("compiled", "own", "passes"),
    [
        (FACTOR * 3 * 0.99, (3.0, 3.0), True),
        (FACTOR * 3 * 1.01, (3.0, 3.0), False),
        (0.99, (0.0,), True),  # one spacing is always allowed
        (1.01, (0.0,), False),
        (1.01, (np.nan,), False),  # that transformers overflows excuses nothing
        (0.99, (np.nan,), True),
    ],
)
def test_in_reduced_precision_transformers_own_error_is_the_measure(
    compiled: float, own: tuple[float, ...], passes: bool
) -> None:
    found = compare_rows(bf16_rows(compiled, *own), dtype="bf16", num_layers=4)

    assert found.passed == passes
    assert found.dtype_ulp == pytest.approx(np.nan_to_num(max(own)))
