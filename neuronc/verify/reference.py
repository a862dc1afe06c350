"""The original model, run by transformers, as the truth that artifacts are held against.

It computes in f32, with eager attention where that is right, from the very weights (in the
artifact's dtype) that the artifact was made of: an error is then the artifact's own, not the
reference's rounding. In reduced precision a second model computes in the artifact's dtype: its
error is what the dtype makes whoever computes in it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuronc.checkpoint.checkpoint import Checkpoint
from neuronc.checkpoint.digest import digest_array
from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.errors import InputError, VerificationError
from neuronc.families.model_config import ModelConfig
from neuronc.parallel.quantize import dequantize
from neuronc.parallel.rank_files import open_ranks
from neuronc.parallel.rules import ParamRule
from neuronc.parallel.shards import is_cut_into, join_shards
from neuronc.parallel.split_manifest import SplitManifest
from neuronc.parallel.stored import scale_rule, store

Array = np.ndarray[Any, Any]
ReadTensor = Callable[[str], Array]


def from_checkpoint(checkpoint: Checkpoint, split: SplitManifest) -> ReadTensor:
    """Tensors as the checkpoint has them, rounded to the split's dtype.

    Those that the split quantises are quantised again, and come back as f32.
    """
    element = numpy_dtype(DTYPES[split.dtype])

    def read(name: str) -> Array:
        own, rule = np.asarray(checkpoint.reader.read(name)), split.tensors[name].rule
        if rule.channel_dim is None:
            return own.astype(element)
        (_, stored, _), (_, scales, _) = store(own, rule, split.quantize)
        return dequantize(stored, scales, rule.channel_dim)

    return read


def unquantized(checkpoint: Checkpoint, split: SplitManifest) -> ReadTensor:
    """As `from_checkpoint`, with the checkpoint's own values, in f32, of what is quantised."""
    element = numpy_dtype(DTYPES[split.dtype])

    def read(name: str) -> Array:
        is_quantized = split.tensors[name].rule.channel_dim is not None
        wanted = np.dtype(np.float32) if is_quantized else element
        return np.asarray(checkpoint.reader.read(name)).astype(wanted)

    return read


def from_shards(weights_dir: Path, split: SplitManifest) -> ReadTensor:
    """Tensors put together from the rank files, each compared with the checkpoint's digest.

    The digest was taken of the whole tensor when it was split, so a wrong shard, or shards of two
    ranks changed for each other, cannot pass as the original. Quantised ones come back as f32.
    """
    readers = open_ranks(weights_dir, split)

    def read(name: str) -> Array:
        tensor = split.tensors[name]
        whole = join(tensor.rule, tensor.digest)
        if tensor.rule.channel_dim is None:
            return whole
        scales = join(scale_rule(tensor.rule), tensor.scale_digest)
        return dequantize(whole, scales, tensor.rule.channel_dim)

    def join(rule: ParamRule, digest: str | None) -> Array:
        shards = [np.asarray(reader.read(rule.name)) for reader in readers]
        whole = join_shards(shards, rule)
        # A linked split has no digests: what it reads is the checkpoint.
        is_another = bool(digest) and digest_array(whole) != digest
        if not is_cut_into(whole, shards, rule) or is_another:
            message = (
                f"{rule.name!r} put together from the rank shards is not the checkpoint's tensor"
            )
            raise VerificationError(message, hint="split the checkpoint again")
        return whole

    return read


@dataclass(frozen=True, kw_only=True)
class References:
    """The truth, and what transformers makes of it in the artifact's dtype.

    Attributes:
        truth: transformers' model in f32.
        same_dtype: The same in the artifact's dtype; None where that is f32.
    """

    truth: "ReferenceModel"
    same_dtype: "ReferenceModel | None"

    @classmethod
    def build(
        cls, config: ModelConfig, names: list[str], read: ReadTensor, *, dtype: str
    ) -> "References":
        """Fill the models of ``config`` with the tensors ``names``; memory is that of both.

        Raises:
            InputError: transformers' model has other parameters than the artifact.
        """
        truth = ReferenceModel.build(config, names, read)
        same = None if dtype == "f32" else ReferenceModel.build(config, names, read, dtype=dtype)
        return cls(truth=truth, same_dtype=same)

    def logits(self, token_ids: list[int]) -> tuple[Array, Array | None]:
        """Logits ``[length, vocab]`` f32 of both."""
        own = self.same_dtype.logits(token_ids) if self.same_dtype else None
        return self.truth.logits(token_ids), own

    def hidden(self, token_ids: list[int]) -> tuple[Array, Array | None]:
        """Last hidden states ``[length, hidden]`` f32 of both."""
        own = self.same_dtype.hidden(token_ids) if self.same_dtype else None
        return self.truth.hidden(token_ids), own


class ReferenceModel:
    """transformers' own model of an artifact, on the host."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @classmethod
    def build(
        cls, config: ModelConfig, names: list[str], read: ReadTensor, *, dtype: str = "f32"
    ) -> "ReferenceModel":
        """Fill the model of ``config`` with the tensors ``names``, computing in ``dtype``.

        Memory is the model in that dtype, plus one tensor in f32.

        Raises:
            InputError: transformers' model has other parameters than the artifact.
        """
        import torch

        from neuronc.trace.meta_model import build_meta_model

        attention = config.family.reference_attention
        element = getattr(torch, DTYPES[dtype].torch)
        model = build_meta_model(config.raw, dtype=element, attention=attention)
        state = {n: torch.from_numpy(read(n).astype(np.float32)).to(element) for n in names}
        _, unexpected = model.load_state_dict(state, strict=False, assign=True)
        model.tie_weights()
        lost = [n for n, p in model.named_parameters() if p.device.type == "meta"]
        if unexpected or lost:
            message = f"transformers' model lacks {unexpected[:3]} or has no weights for {lost[:3]}"
            raise InputError(message, hint="the checkpoint does not belong to its config.json")
        return cls(model)

    def layers(self, token_ids: list[int]) -> dict[str, Array]:
        """The output ``[length, hidden]`` f32 of every layer by name, in order."""
        import torch

        from neuronc.trace.layer_outputs import watching

        with torch.no_grad(), watching(self._model) as outputs:
            self._model(input_ids=torch.tensor([token_ids]))
        return {name: output[0].float().numpy() for name, output in outputs.items()}

    def hidden(self, token_ids: list[int]) -> Array:
        """An encoder's last hidden state ``[length, hidden]`` f32 of one text."""
        import torch

        with torch.no_grad():
            output = self._model(input_ids=torch.tensor([token_ids]))
        result: Array = output.last_hidden_state[0].float().numpy()
        return result

    def logits(self, token_ids: list[int]) -> Array:
        """Logits ``[length, vocab]`` f32 after every token of one sequence."""
        import torch

        with torch.no_grad():
            output = self._model(input_ids=torch.tensor([token_ids]), use_cache=False)
        result: Array = output.logits[0].float().numpy()
        return result
