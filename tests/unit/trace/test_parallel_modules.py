"""The modules that take the place of a model's own, on one process with the ranks in a loop."""

import pytest
import torch

from neuronc.trace import parallel_modules
from neuronc.trace.context import ProgramContext, running
from neuronc.trace.parallel_modules import split_vocab


class Scaled(torch.nn.Embedding):
    """An embedding that does more than look up, as gemma's."""

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        return super().forward(token_ids) * 3.0


@pytest.mark.parametrize("kind", [torch.nn.Embedding, Scaled])
def test_the_ranks_embeddings_add_up_to_the_models(
    monkeypatch: pytest.MonkeyPatch, kind: type[torch.nn.Embedding]
) -> None:
    monkeypatch.setattr(parallel_modules, "all_reduce", lambda part: part)
    whole = kind(8, 4)
    total = torch.zeros(1, 8, 4)
    for rank in range(4):
        part = kind(2, 4, _weight=whole.weight[2 * rank : 2 * rank + 2].detach())
        split_vocab(part, vocab_per_rank=2)
        number = torch.tensor([rank], dtype=torch.int32)
        program = ProgramContext(positions_NS=torch.zeros(1, 8), key_length=8, rank=number)
        with running(program):
            total += part(torch.arange(8)[None])

    assert torch.equal(total, whole(torch.arange(8)[None]))
