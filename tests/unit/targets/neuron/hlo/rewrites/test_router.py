from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import lax

from tests.hlo_programs import assert_same

RNG = np.random.default_rng(0)
TOKENS, WIDTH, EXPERTS = 6, 8, 16
HIDDEN = RNG.standard_normal((TOKENS, WIDTH)).astype(np.float32)
GATE = RNG.standard_normal((WIDTH, EXPERTS)).astype(np.float32)


def route(hidden: Any, gate: Any) -> Any:
    """Top-2 experts of each token, their shares, and each token's place in its experts' queues."""
    shares, experts = lax.top_k(jax.nn.softmax((hidden @ gate).astype(jnp.float32), -1), 2)
    chosen = jax.nn.one_hot(experts, EXPERTS, dtype=jnp.int32).reshape(-1, EXPERTS)
    places = jnp.cumsum(chosen, 0) * chosen
    return shares / shares.sum(-1, keepdims=True), experts, places.max(-1), chosen.sum(0)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_a_router_of_experts_chooses_alike(dtype: Any, x64: bool) -> None:
    pair = assert_same(route, HIDDEN.astype(dtype), GATE.astype(dtype), x64=x64)
    assert "reduce-window" in pair.opcodes


def test_equal_experts_are_chosen_alike() -> None:
    assert_same(route, HIDDEN, np.repeat(GATE[:, :4], 4, axis=1))


def test_tokens_are_grouped_by_expert_alike() -> None:
    def group(hidden: Any, experts: Any) -> Any:
        order = jnp.argsort(experts, stable=True)
        ends = jnp.searchsorted(experts[order], jnp.arange(EXPERTS), side="right", method="sort")
        return hidden[order], jnp.argsort(order), ends

    assert_same(group, HIDDEN, np.array([3, 0, 3, 15, 0, 3], np.int64), x64=True)
