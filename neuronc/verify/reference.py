"""The original model, run by transformers, as the truth that artifacts are held against.

It computes in f32, with eager attention where that is right, from the very weights (in the artifact's dtype) that the
artifact was made of: an error is then the artifact's own, not the reference's rounding.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from neuronc.checkpoint.checkpoint import Checkpoint
from neuronc.checkpoint.digest import digest_array
from neuronc.checkpoint.safetensors_reader import SafetensorsReader, read_safetensors_header
from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.errors import InputError, VerificationError
from neuronc.families.model_config import ModelConfig
from neuronc.parallel.shards import is_cut_into, join_shards
from neuronc.parallel.split_manifest import SplitManifest, rank_file

Array = np.ndarray[Any, Any]
ReadTensor = Callable[[str], Array]


def from_checkpoint(checkpoint: Checkpoint, split: SplitManifest) -> ReadTensor:
    """Tensors as the checkpoint has them, rounded to the split's dtype."""
    element = numpy_dtype(DTYPES[split.dtype])

    def read(name: str) -> Array:
        return np.asarray(checkpoint.reader.read(name)).astype(element)

    return read


def from_shards(weights_dir: Path, split: SplitManifest) -> ReadTensor:
    """Tensors put together from the rank files, each compared with the checkpoint's digest.

    The digest was taken of the whole tensor when it was split, so a wrong shard, or shards of two
    ranks changed for each other, cannot pass as the original.
    """
    readers = [
        SafetensorsReader(
            folder=weights_dir, stored=read_safetensors_header(weights_dir / rank_file(rank))
        )
        for rank in range(split.tp)
    ]

    def read(name: str) -> Array:
        tensor = split.tensors[name]
        shards = [np.asarray(reader.read(name)) for reader in readers]
        whole = join_shards(shards, tensor.rule)
        if not is_cut_into(whole, shards, tensor.rule) or digest_array(whole) != tensor.sha256:
            message = f"{name!r} put together from the rank shards is not the checkpoint's tensor"
            raise VerificationError(message, hint="split the checkpoint again")
        return whole

    return read


class ReferenceModel:
    """transformers' own model of an artifact, in f32 on the host."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @classmethod
    def build(cls, config: ModelConfig, names: list[str], read: ReadTensor) -> "ReferenceModel":
        """Fill the model of ``config`` with the tensors ``names``.

        Memory is the model in f32, plus one tensor.

        Raises:
            InputError: transformers' model has other parameters than the artifact.
        """
        import torch

        from neuronc.trace.meta_model import build_meta_model

        attention = config.family.reference_attention
        model = build_meta_model(config.raw, dtype=torch.float32, attention=attention)
        state = {name: torch.from_numpy(read(name).astype(np.float32)) for name in names}
        _, unexpected = model.load_state_dict(state, strict=False, assign=True)
        model.tie_weights()
        lost = [n for n, p in model.named_parameters() if p.device.type == "meta"]
        if unexpected or lost:
            message = f"transformers' model lacks {unexpected[:3]} or has no weights for {lost[:3]}"
            raise InputError(message, hint="the checkpoint does not belong to its config.json")
        return cls(model)

    def logits(self, token_ids: list[int]) -> Array:
        """Logits ``[length, vocab]`` f32 after every token of one sequence."""
        import torch

        with torch.no_grad():
            output = self._model(input_ids=torch.tensor([token_ids]), use_cache=False)
        result: Array = output.logits[0].float().numpy()
        return result
