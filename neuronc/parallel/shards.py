"""Cutting one tensor into rank shards, and putting shards together again."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Rows ``to`` and on of a shard: ``length`` rows of the tensor from ``start``, None for zeros."""

    to: int
    start: int | None
    length: int


def spans_of(rule: ParamRule, rank: int, start: int, stop: int) -> list[Span]:
    """Which rows of ``rank``'s shard are rows ``start`` to ``stop`` of a tensor split by rows.

    In the shard's order. Zeros come with the row before them, or with the first, so that going
    through a tensor's rows in order makes the shard in order, where `is_in_order`.
    """
    found, to, last = [], 0, -1
    for piece in rule.ranks[rank]:
        if piece.start is None:
            if start <= max(last, 0) < max(stop, 1):
                found.append(Span(to=to, start=None, length=piece.length))
        else:
            begin, end = max(piece.start, start), min(piece.start + piece.length, stop)
            if begin < end:
                found.append(Span(to=to + begin - piece.start, start=begin, length=end - begin))
            last = piece.start + piece.length - 1
        to += piece.length
    return found


def is_in_order(rule: ParamRule) -> bool:
    """Whether every rank has its rows in the order of the whole, and none twice."""
    if rule.dim != 0:
        return True
    for pieces in rule.ranks:
        real = [(piece.start, piece.length) for piece in pieces if piece.start is not None]
        if any(start + length > after for (start, length), (after, _) in pairwise(real)):
            return False
    return True


def cut_rows(rows: Array, start: int, rule: ParamRule, rank: int) -> list[Array]:
    """What ``rank``'s shard gets of rows ``start`` and on of the tensor, in the shard's order."""
    if rule.dim != 0:
        return [cut_shard(rows, rule, rank)]
    return [
        np.full((span.length, *rows.shape[1:]), rule.padding, dtype=rows.dtype)
        if span.start is None
        else rows[span.start - start : span.start - start + span.length]
        for span in spans_of(rule, rank, start, start + len(rows))
    ]


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
