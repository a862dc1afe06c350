"""Which tensors of a checkpoint are the model's parameters, and whether any is missing.

Only names are looked at here; shapes and tensors too many are the plan's matter.
"""

import itertools
import re
from collections.abc import Collection

from neuronc.checkpoint.checkpoint import Checkpoint
from neuronc.checkpoint.tensor_info import TensorInfo
from neuronc.errors import InputError
from neuronc.families.model_config import ModelConfig
from neuronc.parallel.modules import (
    EMBEDDING,
    HEAD,
    NORM,
    is_parameter,
    matches_module,
)

# Buffers that older transformers versions saved; the model computes them itself.
_NOT_PARAMETERS = re.compile(
    r".*\.(?:rotary_emb\.inv_freq|masked_bias|attn\.bias|attention\.bias|attn\.causal_mask)"
)
_LAYER = re.compile(r"(?:.*\.)?(?:layers|layer|h|blocks)\.(\d+)\.(.+)")


def model_tensors(checkpoint: Checkpoint, config: ModelConfig) -> dict[str, TensorInfo]:
    """The checkpoint's parameters: no saved buffers, no second copy of a tied LM head.

    Raises:
        InputError: a tensor is not floating point of 16 bits or more.
    """
    infos = {
        name: info
        for name, info in checkpoint.tensors.items()
        if not _NOT_PARAMETERS.fullmatch(name)
        and not name.startswith(config.family.unused)
        and not (config.tie_word_embeddings and _is_head(name))
    }
    for info in infos.values():
        if not info.dtype.is_float or info.dtype.size_bytes == 1:
            what = f"tensor {info.name!r} of {checkpoint.source} is {info.dtype.name}"
            kind = "8-bit float" if info.dtype.is_float else "integer"
            message = f"{what}; expected floating point, {kind} (quantized) weights cannot be used"
            raise InputError(message, hint="use the checkpoint that the quantized one was made of")
    return infos


def check_complete(names: Collection[str], config: ModelConfig, *, source: str) -> None:
    """Compare ``names``, the parameters of ``source``, with what ``config`` promises.

    Raises:
        InputError: there are more or fewer layers than the config says, or one lacks a tensor that
            another has; for a family that can be split, also when all lack it, or the embedding,
            the last norm or the LM head is missing.
    """
    _check_layers(names, config, source)
    if not config.family.why_not:
        _check_parts(names, config, source)


def _check_layers(names: Collection[str], config: ModelConfig, source: str) -> None:
    """Layers of one family may differ, but none is another with tensors left out."""
    layers: dict[int, set[str]] = {}
    for name in names:
        if match := _LAYER.fullmatch(name):
            layers.setdefault(int(match[1]), set()).add(match[2])
    if extra := [number for number in layers if number >= config.num_layers]:
        message = f"{source} has a layer {max(extra)}; config.json says {config.num_layers} layers"
        raise InputError(message, hint="use the config.json that belongs to the weights")
    if layers and len(layers) < config.num_layers:
        lost = next(number for number in itertools.count() if number not in layers)
        raise _incomplete(source, f"layer {lost} of {config.num_layers}")
    splits = config.family.splits.items()
    # Norms that some layers lack; other optional modules stand in for each other.
    optional = [p for p, split in splits if split.optional and split.style == "whole"]
    may_lack = tuple(f"{pattern.rpartition('*.')[2]}." for pattern in optional)
    needed = {
        number: frozenset(name for name in found if not name.startswith(may_lack))
        for number, found in layers.items()
    }
    for number, found in sorted(needed.items()):
        for kind in set(needed.values()):
            if found < kind:
                raise _incomplete(source, f"{min(kind - found)!r} of layer {number}")


def _check_parts(names: Collection[str], config: ModelConfig, source: str) -> None:
    outside = [name for name in names if not _LAYER.fullmatch(name)]
    if not any(EMBEDDING.fullmatch(name) for name in outside):
        raise _incomplete(source, "'embed_tokens.weight'")
    has_head = config.embedding is None and not config.tie_word_embeddings
    if has_head and not any(map(_is_head, outside)):
        raise _incomplete(source, "'lm_head.weight', and config.json does not tie it")
    in_layers = [match[2] for name in names if (match := _LAYER.fullmatch(name))]
    for known in config.family.whole:
        if not any(is_parameter(name, known) for name in outside):
            raise _incomplete(source, repr(known))
    has_norms, has_last = (any(map(NORM.fullmatch, n)) for n in (in_layers, outside))
    if not config.family.whole and has_norms and not has_last:
        raise _incomplete(source, "the norm after the last layer")
    for pattern, split in config.family.splits.items():
        name = pattern.split("*.")[-1]
        if split.style == "whole" or split.optional:
            continue
        if name in in_layers or f"{name}.weight" in in_layers:
            continue
        if not any(matches_module(whole, pattern) for whole in names):
            raise _incomplete(source, f"'{name}.weight' of every layer")


def _is_head(name: str) -> bool:
    return name.endswith(".weight") and HEAD.fullmatch(name) is not None


def _incomplete(source: str, what: str) -> InputError:
    message = f"{source} lacks {what}"
    return InputError(message, hint="the checkpoint is incomplete, or config.json is another's")
