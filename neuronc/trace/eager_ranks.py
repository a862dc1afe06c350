"""A rank's program run by torch as it is, ranks as threads: a check of the model surgery alone.

It costs milliseconds where lowering and compiling cost seconds, and shows whether a difference
from transformers comes from the split and the cache or from what is done to the graph later.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BrokenBarrierError
from typing import Any

import numpy as np
import torch

from neuronc.dtypes import DTYPES
from neuronc.families.model_config import ModelConfig
from neuronc.parallel.plan import ParallelPlan
from neuronc.parallel.rules import ParamRule
from neuronc.parallel.shards import cut_shard
from neuronc.parallel.stored import stored_tensors
from neuronc.trace.attention import ATTENTION
from neuronc.trace.collectives import RankGroup
from neuronc.trace.masks import masked_by_position
from neuronc.trace.probe import probe_program
from neuronc.trace.program_spec import ProgramSpec
from neuronc.trace.rank_model import build_rank_model
from neuronc.trace.signature import make_signature
from neuronc.trace.trace_error import naming_errors
from neuronc.trace.trace_program import make_rank_program

Array = np.ndarray[Any, Any]
_ONE_TEXT = ProgramSpec(phase="embed", bucket=1, batch_size=1, max_length=1)
_ONE_TOKEN = ProgramSpec(phase="decode", bucket=1, batch_size=1, max_length=1)


class EagerRanks:
    """The ranks of ``plan`` with their weights and caches, in this process.

    Args:
        config: The model.
        plan: Its parallel plan.
        weights: Whole tensors by name, as the rank files hold them.
        batch_size: Slots.
        max_length: Cache positions per slot.
        dtype: Our name of the dtype.
    """

    def __init__(
        self,
        config: ModelConfig,
        plan: ParallelPlan,
        weights: Mapping[str, torch.Tensor],
        *,
        batch_size: int,
        max_length: int,
        dtype: str,
    ) -> None:
        self.config, self.plan, self.dtype = config, plan, dtype
        self.batch_size, self.max_length = batch_size, max_length
        torch_dtype = getattr(torch, DTYPES[dtype].torch)
        # One each: calling a model puts the rank's weights into it.
        self.models = [build_rank_model(config, plan, torch_dtype) for _ in range(plan.tp)]
        with naming_errors(self.models[0]), masked_by_position(ATTENTION):
            one = _ONE_TEXT if config.embedding else _ONE_TOKEN
            probed = probe_program(self.models[0], config, plan, one, torch_dtype)
        self.layers = probed.caches
        stored = stored_tensors(plan.rules.values(), dtype=dtype, scheme=plan.quantize)
        rules = {tensor.rule.name: tensor.rule for tensor in stored}
        self.weights = [
            {n: _shard(weights[n], rule, rank) for n, rule in rules.items()}
            for rank in range(plan.tp)
        ]
        self.caches: list[list[torch.Tensor]] = []

    def prefill(self, token_ids: Sequence[int], *, slot: int, start: int, bucket: int) -> Array:
        """Logits ``[vocab]`` after ``token_ids``, the tokens from position ``start`` on."""
        padded = [*token_ids, *[0] * (bucket - len(token_ids))]
        data = ([padded], [slot], [start], [len(token_ids)])
        logits: Array = self._run(self._spec("prefill", bucket), data)[0]
        return logits

    def decode(self, token_ids: Sequence[int], positions: Sequence[int]) -> Array:
        """Logits ``[batch, vocab]`` after one token in every slot."""
        return self._run(self._spec("decode", self.max_length), (token_ids, positions))

    def embed(self, texts: Sequence[Sequence[int]], *, bucket: int) -> Array:
        """Embeddings ``[batch, hidden]`` of token ids, padded to ``bucket``."""
        padded = [[*token_ids, *[0] * (bucket - len(token_ids))] for token_ids in texts]
        lengths = [len(token_ids) for token_ids in texts]
        return self._run(self._spec("embed", bucket), (padded, lengths))

    def _spec(self, phase: Any, bucket: int) -> ProgramSpec:
        return ProgramSpec(
            phase=phase, bucket=bucket, batch_size=self.batch_size, max_length=self.max_length
        )

    def _run(self, spec: ProgramSpec, data: Sequence[Any]) -> Array:
        signature = make_signature(self.config, self.plan, spec, self.layers, dtype=self.dtype)
        group, tp = RankGroup(self.plan.tp), self.plan.tp
        if not self.caches:
            kept = [t for t in signature.inputs if t.kind == "cache"]
            torch_dtype = getattr(torch, DTYPES[self.dtype].torch)
            self.caches = [[torch.zeros(t.shape, dtype=torch_dtype) for t in kept]] * tp
        tensors = [torch.tensor(part, dtype=torch.int32) for part in data]

        def run(rank: int) -> tuple[torch.Tensor, ...]:
            number = [torch.tensor([rank], dtype=torch.int32)] if tp > 1 else []
            program = make_rank_program(self.models[rank], self.config, signature, spec)
            weights = self.weights[rank].values()
            with torch.no_grad(), group.joined(rank):
                outputs: tuple[torch.Tensor, ...] = program(
                    *weights, *self.caches[rank], *number, *tensors
                )
            return outputs

        with masked_by_position(ATTENTION), ThreadPoolExecutor(max_workers=tp) as pool:
            outputs = _results([pool.submit(run, rank) for rank in range(tp)])
        self.caches = [list(rank[1:]) for rank in outputs]
        logits: Array = outputs[0][0].float().numpy()
        return logits


def _results(futures: list[Future[tuple[torch.Tensor, ...]]]) -> list[tuple[torch.Tensor, ...]]:
    """The ranks' results, or the error of the rank that failed rather than of one that waited."""
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in errors:
        if not isinstance(error, BrokenBarrierError):
            raise error
    return [future.result() for future in futures]


def _shard(whole: torch.Tensor, rule: ParamRule, rank: int) -> torch.Tensor:
    return torch.from_numpy(cut_shard(whole.float().numpy(), rule, rank)).to(whole.dtype)
