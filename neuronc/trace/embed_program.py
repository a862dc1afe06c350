"""An encoder on one rank as a function of flat inputs to one embedding per text."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from neuronc.families.embedding import Embedding
from neuronc.families.model_config import ModelConfig
from neuronc.trace.context import ProgramContext, running
from neuronc.trace.program_spec import ProgramSignature, ProgramSpec

# N texts, S tokens, H hidden


class EmbedProgram(nn.Module):
    """Flat inputs in signature order to the embeddings ``[N, H]`` f32.

    Padding follows a text's tokens; nothing sees it. A row of no tokens gives no meaning.
    """

    def __init__(
        self, model: Any, config: ModelConfig, spec: ProgramSpec, signature: ProgramSignature | None
    ) -> None:
        super().__init__()
        if config.embedding is None:
            message = "a decoder has no embed program"
            raise ValueError(message)
        self.held = (model,)  # in a tuple: its parameters are inputs, not state of this module
        self.embedding: Embedding = config.embedding
        self.first_position = config.family.first_position
        self.takes_segments = "token_type_ids" in inspect.signature(model.forward).parameters
        self.spec, self.signature = spec, signature

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor]:
        """See the class."""
        assert self.signature is not None, "called without a signature"
        specs = self.signature.inputs
        named = dict(zip([tensor.name for tensor in specs], inputs, strict=True))
        weights = {t.name: named[t.name] for t in specs if t.kind == "weight"}
        return (self.embed(weights, named.get("rank"), named["token_ids"], named["lengths"]),)

    def embed(
        self,
        weights: Mapping[str, torch.Tensor],
        rank: torch.Tensor | None,
        token_ids_NS: torch.Tensor,
        lengths_N: torch.Tensor,
    ) -> torch.Tensor:
        """Embeddings ``[N, H]`` f32 of texts of ``lengths_N`` tokens."""
        places = torch.arange(self.spec.bucket, dtype=torch.int32)[None]
        valid = places < lengths_N[:, None]
        inputs = {
            "input_ids": token_ids_NS,
            "attention_mask": valid.to(torch.int32),
            "position_ids": (places + self.first_position).expand_as(token_ids_NS),
        }
        if self.takes_segments:
            inputs["token_type_ids"] = torch.zeros_like(token_ids_NS)
        program = ProgramContext(
            positions_NS=places.expand_as(token_ids_NS),
            key_length=self.spec.bucket,
            rank=rank,
            lengths=lengths_N,
        )
        with running(program):
            outputs = torch.func.functional_call(self.held[0], dict(weights), (), inputs)
        return pool(outputs.last_hidden_state, valid, self.embedding)


def pool(hidden_NSH: torch.Tensor, valid_NS: torch.Tensor, how: Embedding) -> torch.Tensor:
    """Embeddings ``[N, H]`` f32, as sentence-transformers' Pooling and Normalize make them."""
    hidden = hidden_NSH.float()
    if how.pooling == "cls":
        pooled = hidden[:, 0]
    else:
        share = valid_NS.to(torch.float32)[:, :, None]
        pooled = (hidden * share).sum(1) / share.sum(1).clamp(min=1e-9)
    if how.normalize:
        length = (pooled * pooled).sum(-1, keepdim=True).sqrt()
        pooled = pooled / length.clamp(min=1e-12)
    return pooled
