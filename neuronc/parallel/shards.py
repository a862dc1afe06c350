"""Cutting one tensor into rank shards, and putting shards together again."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from neuronc.parallel.rules import ParamRule

Array = np.ndarray[Any, Any]


def cut_shard(tensor: Array, rule: ParamRule, rank: int) -> Array:
    """The part of ``tensor`` that ``rank`` holds; a view where it is one unpadded run."""
    if rule.dim is None:
        return tensor
    parts = []
    for piece in rule.ranks[rank]:
        index: list[slice] = [slice(None)] * tensor.ndim
        if piece.start is None:
            shape = (*tensor.shape[: rule.dim], piece.length, *tensor.shape[rule.dim + 1 :])
            parts.append(np.full(shape, rule.padding, dtype=tensor.dtype))
        else:
            index[rule.dim] = slice(piece.start, piece.start + piece.length)
            parts.append(tensor[tuple(index)])
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=rule.dim)


def join_shards(shards: Sequence[Array], rule: ParamRule) -> Array:
    """The tensor that `cut_shard` made ``shards`` of; padding is dropped.

    Where an index lives on several ranks (replicated KV heads), the last rank's copy is taken.
    """
    if rule.dim is None:
        return shards[0]
    whole = np.zeros(rule.shape, dtype=shards[0].dtype)
    for shard, pieces in zip(shards, rule.ranks, strict=True):
        offset = 0
        for piece in pieces:
            if piece.start is not None:
                to: list[slice] = [slice(None)] * whole.ndim
                to[rule.dim] = slice(piece.start, piece.start + piece.length)
                of: list[slice] = [slice(None)] * whole.ndim
                of[rule.dim] = slice(offset, offset + piece.length)
                whole[tuple(to)] = shard[tuple(of)]
            offset += piece.length
    return whole


def is_cut_into(whole: Array, shards: Sequence[Array], rule: ParamRule) -> bool:
    """Whether cutting ``whole`` gives just the bytes of ``shards``.

    Joining alone looks neither at the padding nor at the second copies of an index.
    """
    return all(
        _bytes(cut_shard(whole, rule, rank)) == _bytes(shard) for rank, shard in enumerate(shards)
    )


def _bytes(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
