"""A checkpoint's tensors under the names that the causal LM has for its parameters.

Checkpoints of the base model lack a prefix, and those of mixtures of experts have each expert's
matrices in tensors of their own where the model has them stacked.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from neuronc.checkpoint.blocks import PlacedReader, RangeReader
from neuronc.checkpoint.checkpoint import Checkpoint
from neuronc.checkpoint.tensor_info import Place, TensorInfo, TensorReader, no_such_tensor
from neuronc.errors import InputError
from neuronc.families.family import Family
from neuronc.families.model_config import ModelConfig
from neuronc.parallel.modules import HEAD

if TYPE_CHECKING:
    import numpy as np

Sources = tuple[tuple[str, ...], ...]
"""Per expert, the checkpoint's tensors that are joined along their first dim."""


def named_as_model(checkpoint: Checkpoint, config: ModelConfig) -> Checkpoint:
    """``checkpoint`` under the model's names; given back as it is where those are its own.

    A stacked tensor is read expert by expert and costs its own memory, once.

    Raises:
        InputError: an expert lacks a tensor, or its shape or dtype is another than its siblings'.
    """
    family = config.family
    old_names = {model_name(name, checkpoint.tensors, family): name for name in checkpoint.tensors}
    stacked = _stacked(old_names, family, source=checkpoint.source)
    if not stacked and all(new == old for new, old in old_names.items()):
        return checkpoint
    used = {name for sources in stacked.values() for expert in sources for name in expert}
    plain = {new: old for new, old in old_names.items() if old not in used}
    tensors = {new: replace(checkpoint.tensors[old], name=new) for new, old in plain.items()}
    origins: dict[str, tuple[TensorInfo, ...]] = {
        new: (checkpoint.tensors[old],) for new, old in plain.items()
    }
    for name, sources in stacked.items():
        tensors[name] = _stacked_info(name, sources, checkpoint)
        origins[name] = tuple(checkpoint.tensors[old] for expert in sources for old in expert)
    kind = _ModelRangeReader if isinstance(checkpoint.reader, RangeReader) else _ModelReader
    reader = kind(reader=checkpoint.reader, plain=plain, stacked=stacked)
    return replace(checkpoint, tensors=tensors, reader=reader, origins=origins)


def model_name(name: str, names: Iterable[str], family: Family) -> str:
    """The model's name of parameter ``name``; ``names`` are all that come with it."""
    prefix = family.base_prefix
    if prefix and not HEAD.fullmatch(name) and not any(n.startswith(prefix) for n in names):
        name = prefix + name
    for theirs, ours in family.renamed.items():
        name = name.replace(theirs, ours)
    return name


def _stacked(old_names: Mapping[str, str], family: Family, *, source: str) -> dict[str, Sources]:
    """Model parameter to the tensors of its experts, in the checkpoint's own names."""
    found: dict[str, dict[int, dict[int, str]]] = {}
    for target, patterns in family.stacked.items():
        for number, pattern in enumerate(patterns):
            before, _, after = pattern.partition("#")
            wanted = re.compile(rf"(.*\.)?{re.escape(before)}(\d+){re.escape(after)}")
            for old in old_names.values():
                if match := wanted.fullmatch(old):
                    experts = found.setdefault(f"{match[1] or ''}{target}", {})
                    experts.setdefault(int(match[2]), {})[number] = old
    return {name: _in_order(name, experts, source) for name, experts in found.items()}


def _in_order(name: str, experts: Mapping[int, Mapping[int, str]], source: str) -> Sources:
    parts = max(len(expert) for expert in experts.values())
    for number in range(len(experts)):
        if len(experts.get(number, ())) != parts:
            message = f"{source} lacks a tensor of expert {number} that {name!r} is made of"
            raise InputError(message, hint="the checkpoint is incomplete")
    return tuple(
        tuple(experts[number][part] for part in range(parts)) for number in range(len(experts))
    )


def _stacked_info(name: str, sources: Sources, checkpoint: Checkpoint) -> TensorInfo:
    first = [checkpoint.tensors[old] for old in sources[0]]
    for expert in sources:
        for old, like in zip(expert, first, strict=True):
            info = checkpoint.tensors[old]
            if (info.shape, info.dtype) != (like.shape, like.dtype) or len(info.shape) != 2:
                what = f"{info.dtype.name} {list(info.shape)}, unlike {like.name!r}"
                message = f"tensor {old!r} of {checkpoint.source} is {what}"
                raise InputError(message, hint="the checkpoint is damaged")
    rows = sum(info.shape[0] for info in first)
    shape = (len(sources), rows, first[0].shape[1])
    return TensorInfo(name=name, shape=shape, dtype=first[0].dtype)


@dataclass(frozen=True, kw_only=True, slots=True)
class _ModelReader:
    reader: TensorReader
    plain: Mapping[str, str]
    stacked: Mapping[str, Sources]

    def read(self, name: str) -> "np.ndarray[Any, Any]":
        """The tensor that the checkpoint has under another name, or in parts."""
        if name in self.stacked:
            return self.stack(self.stacked[name])
        if name not in self.plain:
            raise no_such_tensor(name, self.plain, subject="the checkpoint")
        return self.reader.read(self.plain[name])

    def place_of(self, name: str) -> Place | None:
        """Where a tensor lies that the checkpoint has in one piece."""
        reader, old = self.reader, self.plain.get(name)
        return reader.place_of(old) if old and isinstance(reader, PlacedReader) else None

    def stack(self, sources: Sources) -> "np.ndarray[Any, Any]":
        import numpy as np

        whole: np.ndarray[Any, Any] | None = None
        for number, expert in enumerate(sources):
            parts = [np.asarray(self.reader.read(old)) for old in expert]
            if whole is None:
                rows = sum(len(part) for part in parts)
                whole = np.empty((len(sources), rows, parts[0].shape[1]), parts[0].dtype)
            np.concatenate(parts, out=whole[number])
        assert whole is not None, "a stack has at least one expert"
        return whole


@dataclass(frozen=True, kw_only=True, slots=True)
class _ModelRangeReader(_ModelReader):
    """For a reader below that reads ranges."""

    def read_range(self, name: str, start: int, stop: int) -> "np.ndarray[Any, Any]":
        """Rows of a tensor, or some of a layer's experts."""
        if name in self.stacked:
            return self.stack(self.stacked[name][start:stop])
        if name not in self.plain:
            raise no_such_tensor(name, self.plain, subject="the checkpoint")
        reader = cast("RangeReader", self.reader)  # chosen for it; to ask takes a while
        return reader.read_range(self.plain[name], start, stop)
