import pytest

from neuronc.bench.summary import summarize


def test_percentiles_interpolate_linearly() -> None:
    made = summarize([float(value) for value in range(1, 12)])  # 1 to 11
    assert made is not None
    assert (made.mean, made.p50, made.max, made.n) == (6.0, 6.0, 11.0, 11)
    assert (made.p90, made.p95, made.p99) == pytest.approx((10.0, 10.5, 10.9))


def test_no_samples_have_no_summary() -> None:
    assert summarize([]) is None
