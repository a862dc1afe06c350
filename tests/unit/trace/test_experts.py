"""An expert that no token picked adds nothing, whatever it would have computed."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig
from transformers.models.mixtral.modeling_mixtral import MixtralExperts

from neuronc.trace.context import ProgramContext, running
from neuronc.trace.experts import experts_of_rank
from tests.tiny_families import TINY_FAMILIES

OVERFLOWS = 0


@pytest.fixture
def experts() -> Any:
    """Four experts in f16, the first of them with weights that overflow."""
    config = AutoConfig.for_model("mixtral", **TINY_FAMILIES["mixtral"][1])
    config._experts_implementation = "eager"
    module: Any = MixtralExperts(config)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
            parameter[OVERFLOWS] *= 3000
    module.splits_features = False
    return module.half()


@pytest.mark.parametrize("num_tokens", [1, 8])
def test_an_expert_that_overflows_and_is_not_picked_adds_nothing(
    experts: Any, num_tokens: int
) -> None:
    hidden, picked, weights = _tokens(num_tokens)
    with torch.no_grad():
        expected = experts.forward(hidden, picked, weights)
        found = experts_of_rank(experts, hidden, picked, weights)

    assert torch.isfinite(expected).all()
    assert torch.allclose(found, expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("num_tokens", [1, 8])
def test_a_pick_of_another_ranks_expert_reads_none_of_this_ones(
    experts: Any, num_tokens: int
) -> None:
    hidden, picked, weights = _tokens(num_tokens)
    rank = torch.tensor([1], dtype=torch.int32)
    program = ProgramContext(positions_NS=picked, key_length=1, rank=rank)
    for name in ("gate_up_proj", "down_proj"):
        setattr(experts, name, torch.nn.Parameter(getattr(experts, name)[:2]))

    with running(program), torch.no_grad():
        found = experts_of_rank(experts, hidden, torch.full_like(picked, 1), weights)

    assert torch.equal(found, torch.zeros_like(found))


def _tokens(number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states, and two of the experts 1 to 3 for each."""
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(number, 36, generator=generator).half() * 4
    picked = torch.stack([torch.randperm(3, generator=generator)[:2] + 1 for _ in range(number)])
    return hidden, picked, torch.full((number, 2), 0.5).half()
