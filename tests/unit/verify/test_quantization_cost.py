import numpy as np
import pytest

from neuronc.verify.quantization_cost import cost_of_embeddings, cost_of_logits

ROW = np.array([1.0, 2.0, 4.0], np.float32)


def test_equal_logits_cost_nothing() -> None:
    found = cost_of_logits([(ROW, ROW)] * 3)
    assert (found.num_rows, found.max_relative_error, found.mean_kl) == (3, 0, 0)
    assert found.top1_agreement == 1


def test_logits_are_compared_row_by_row() -> None:
    moved, swapped = np.array([1.0, 2.0, 4.4]), np.array([1.0, 4.0, 2.0])
    found = cost_of_logits([(ROW, ROW), (moved, ROW), (swapped, ROW)])
    assert found.max_relative_error == pytest.approx(2 / 4)
    assert found.mean_relative_error == pytest.approx((0 + 0.1 + 0.5) / 3)
    assert found.top1_agreement == pytest.approx(2 / 3)
    p = np.exp(ROW) / np.exp(ROW).sum()
    q = np.exp(swapped) / np.exp(swapped).sum()
    assert found.max_kl == pytest.approx(float((p * np.log(p / q)).sum()), rel=1e-5)


def test_embeddings_are_compared_by_angle_too() -> None:
    found = cost_of_embeddings([(ROW, ROW), (np.array([4.0, 2.0, 1.0]), ROW)])
    assert found.min_cosine == pytest.approx((4 + 4 + 4) / 21)
    assert found.max_relative_error == pytest.approx(3 / 4)
    assert found.mean_kl is None
