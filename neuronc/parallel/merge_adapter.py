"""A checkpoint with a LoRA adapter merged into the tensors as they are read.

``W + scale * B @ A`` as in PEFT's ``merge_and_unload``: computed in f32, rounded to W's dtype once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neuronc.checkpoint.checkpoint import Checkpoint
from neuronc.checkpoint.lora import Adapter, Factors
from neuronc.checkpoint.tensor_info import TensorInfo, TensorReader, nearest
from neuronc.dtypes import numpy_dtype
from neuronc.errors import InputError
from neuronc.families.model_config import ModelConfig
from neuronc.parallel.model_names import model_name
from neuronc.parallel.modules import EMBEDDING, HEAD

Array = np.ndarray[Any, Any]

_BLOCK_ELEMENTS = 2**22
"""Elements of a weight that are in memory in f32 at a time: 16 MiB, and as much for the change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Change:
    """What becomes of one tensor; names are the adapter's.

    Attributes:
        replaced_by: Tensor that takes its place.
        left: Factor whose rows, or columns if `transposed`, are those of the tensor.
        right: The other factor.
        transposed: The change is ``(left @ right).T`` of the factors as they are stored.
        bias: Tensor that is added to a bias.
        scale: Of the product, and of what is added to a bias.
    """

    replaced_by: str | None = None
    left: str | None = None
    right: str | None = None
    transposed: bool = False
    bias: str | None = None
    scale: float = 1.0


def merge_adapter(checkpoint: Checkpoint, config: ModelConfig, adapter: Adapter) -> Checkpoint:
    """``checkpoint`` whose reader gives merged tensors: same names, shapes and dtypes.

    Nothing is read yet. Reading takes one tensor, its two factors and some MiB.

    Raises:
        InputError: the adapter's tensors match no parameter, or have other shapes than it asks
            for; or it changes the embedding or the LM head where they are one tensor.
    """
    _check_tied(adapter, config)
    finder = _Finder(checkpoint, config, adapter)
    changes: dict[str, _Change] = {}
    for parameter, info in adapter.replaced.items():
        if config.tie_word_embeddings and HEAD.fullmatch(parameter):
            continue  # `_check_tied` found it equal to the embedding
        own = finder.find(parameter, told_by=info.name)
        finder.require_shape(info, own, own.shape)
        changes[own.name] = _Change(replaced_by=info.name)
    for module, factors in adapter.factors.items():
        for name, change in finder.changes(module, factors):
            changes[name] = replace(change, replaced_by=changes.get(name, _Change()).replaced_by)
    reader = _MergedReader(
        reader=checkpoint.reader, infos=checkpoint.tensors, adapter=adapter, changes=changes
    )
    return replace(
        checkpoint, reader=reader, adapter=adapter.identity, adapter_folder=adapter.folder
    )


def _check_tied(adapter: Adapter, config: ModelConfig) -> None:
    """One tensor cannot take two changes, and merging only one of them is another model."""
    if not config.tie_word_embeddings or config.embedding is not None:
        return
    by_kind = {
        kind: [info for name, info in adapter.replaced.items() if pattern.fullmatch(name)]
        for kind, pattern in (("embedding", EMBEDDING), ("head", HEAD))
    }
    adapted = [
        module
        for module in adapter.factors
        if EMBEDDING.fullmatch(f"{module}.weight") or HEAD.fullmatch(f"{module}.weight")
    ]
    whole = [*by_kind["embedding"], *by_kind["head"]]
    if not adapted and not whole:
        return
    if not adapted and all(len(found) == 1 for found in by_kind.values()):
        one, other = (np.asarray(adapter.reader.read(info.name)) for info in whole)
        if one.dtype == other.dtype and np.array_equal(one, other):
            return
    name = adapted[0] if adapted else whole[0].name
    message = f"{adapter.folder} changes {name!r}, and the model's embedding is its LM head too"
    hint = "merge it with PEFT into a checkpoint with tie_word_embeddings false"
    raise InputError(message, hint=hint)


class _Finder:
    """Finds the checkpoint's tensor for a parameter of the adapted model."""

    def __init__(self, checkpoint: Checkpoint, config: ModelConfig, adapter: Adapter) -> None:
        self.checkpoint, self.config, self.adapter = checkpoint, config, adapter
        names, family = checkpoint.tensors, config.family
        self.own_names = {model_name(name, names, family): name for name in names}
        self.together = [*adapter.replaced, *(f"{m}.weight" for m in adapter.factors)]

    def find(self, parameter: str, *, told_by: str) -> TensorInfo:
        tensors = self.checkpoint.tensors
        theirs = model_name(parameter, self.together, self.config.family)
        for name in (parameter, theirs):
            own = self.own_names.get(name, name)
            if own in tensors:
                return tensors[own]
        near = nearest(parameter, self.own_names)
        message = f"tensor {told_by!r} of {self.adapter.folder} matches no parameter{near}"
        raise InputError(message, hint="pass the checkpoint that the adapter was trained on")

    def changes(self, module: str, factors: Factors) -> list[tuple[str, _Change]]:
        """The module's weight, and its bias where that changes too."""
        weight = self.find(f"{module}.weight", told_by=factors.a.name)
        scale = self.adapter.config.scale_of(module)
        transposed = factors.is_embedding or self._is_in_out(module)
        self._check_shapes(module, factors, weight, transposed=transposed)
        change = _Change(
            left=factors.b.name, right=factors.a.name, transposed=transposed, scale=scale
        )
        found = [(weight.name, change)]
        if factors.bias is not None:
            own = self.find(f"{module}.bias", told_by=factors.bias.name)
            self.require_shape(factors.bias, own, own.shape)
            found.append((own.name, _Change(bias=factors.bias.name, scale=scale)))
        return found

    def _is_in_out(self, module: str) -> bool:
        family = self.config.family
        # PEFT corrects fan_in_fan_out by the layer's class, which of other families is not known
        has_conv1d = family.in_out or (bool(family.why_not) and self.adapter.config.fan_in_fan_out)
        return has_conv1d and not HEAD.fullmatch(f"{module}.weight")

    def _check_shapes(
        self, module: str, factors: Factors, weight: TensorInfo, *, transposed: bool
    ) -> None:
        if len(weight.shape) != 2:
            message = f"{weight.name!r} is {list(weight.shape)}; LoRA is merged into matrices"
            raise InputError(message, hint="merge it with PEFT, and pass the merged checkpoint")
        out, width = reversed(weight.shape) if transposed else weight.shape
        rank = self.adapter.config.rank_of(module)
        self.require_shape(factors.a, weight, (rank, width))
        self.require_shape(factors.b, weight, (out, rank))

    def require_shape(self, info: TensorInfo, own: TensorInfo, shape: tuple[int, ...]) -> None:
        if info.shape != shape:
            message = (
                f"tensor {info.name!r} of {self.adapter.folder} is {list(info.shape)}; expected"
                f" {list(shape)} for {own.name!r} {list(own.shape)}"
            )
            hint = "pass the checkpoint that the adapter was trained on, of the same vocabulary"
            raise InputError(message, hint=hint)


@dataclass(frozen=True, kw_only=True, slots=True)
class _MergedReader:
    reader: TensorReader
    infos: Mapping[str, TensorInfo]
    adapter: Adapter
    changes: Mapping[str, _Change]

    def read(self, name: str) -> Array:
        """The merged tensor, a fresh array; one that the adapter leaves alone as it is read."""
        if name not in self.changes:
            return self.reader.read(name)
        change, dtype = self.changes[name], numpy_dtype(self.infos[name].dtype)
        if change.replaced_by is not None:
            base = self._factor(change.replaced_by)
        else:
            base = np.asarray(self.reader.read(name))
        if change.bias is not None:
            return self._rounded(name, _f32(base) + self._scaled(change), dtype)
        if change.left is None or change.right is None:
            return self._rounded(name, base, dtype)
        left, right = self._factor(change.left), self._factor(change.right)
        if change.transposed:
            left, right = right.T, left.T
        return self._add(name, base, left, right, change.scale, dtype)

    def _add(
        self, name: str, base: Array, left: Array, right: Array, scale: float, dtype: Any
    ) -> Array:
        merged = np.empty(base.shape, dtype)
        step = max(1, _BLOCK_ELEMENTS // max(1, base.shape[1]))
        for start in range(0, len(base), step):
            rows = slice(start, start + step)
            delta = left[rows] @ right
            delta *= np.float32(scale)
            delta += _f32(base[rows])
            merged[rows] = self._rounded(name, delta, dtype)
        return merged

    def _scaled(self, change: _Change) -> Array:
        assert change.bias is not None
        return self._factor(change.bias) * np.float32(change.scale)

    def _factor(self, name: str) -> Array:
        values = _f32(np.asarray(self.adapter.reader.read(name)))
        if not np.isfinite(values).all():
            message = f"tensor {name!r} of {self.adapter.folder} holds NaN or infinity"
            raise InputError(message, hint="the adapter is broken: train or download it again")
        return values

    def _rounded(self, name: str, values: Array, dtype: Any) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            cast = values.astype(dtype)
        if np.isinf(cast).sum() > np.isinf(values).sum():
            message = f"{name!r} merged with {self.adapter.folder} is too large for {dtype}"
            raise InputError(message, hint="convert the checkpoint to bf16 or f32 first")
        return cast


def _f32(values: Array) -> Array:
    return values.astype(np.float32)
