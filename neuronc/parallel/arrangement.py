"""Which indices of a split dim go to which rank, whatever order heads and features lie in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from neuronc.families.family import Part, Split
from neuronc.parallel.heads import HeadLayout
from neuronc.parallel.rules import Piece, even_pieces, merge_pieces


@dataclass(frozen=True, kw_only=True, slots=True)
class _Units:
    """The units of the whole model, or those of one rank; None is an empty one."""

    query: Sequence[int | None]
    kv: Sequence[int | None]
    feature: Sequence[int | None]
    q_per_kv: int

    def of(self, part: Part) -> Sequence[int | None]:
        units: Sequence[int | None] = getattr(self, part.unit)
        return units


def dim_size(split: Split, heads: HeadLayout, head_dim: int) -> int | None:
    """Size that the model's heads give the split dim; None where features are in it."""
    if any(part.unit == "feature" for part in split.parts):
        return None
    counts = {"query": heads.num_heads, "kv": heads.num_kv_heads}
    return sum(counts[part.unit] * (part.width or head_dim) for part in split.parts)


@lru_cache(maxsize=256)  # the layers of a model are alike
def arrange(
    split: Split, size: int, heads: HeadLayout, head_dim: int
) -> tuple[tuple[Piece, ...], ...]:
    """Per rank, the pieces of a dim of ``size`` indices that ``split`` describes.

    Heads go where ``heads`` puts them. Features go in equal runs, the last ones padded with zeros
    where the ranks do not divide them. A rank's part is in the order of the whole.
    """
    if split.order == "parts" and split.chunks == 1 and len(split.parts) == 1:
        [part] = split.parts
        if part.unit == "feature":  # thousands of units that need no telling apart
            return _runs(_features(split, size), len(heads.q_ranks), _width(part, head_dim))
    return arrange_units(split, size, heads, head_dim)


def _runs(features: int, tp: int, width: int) -> tuple[tuple[Piece, ...], ...]:
    return tuple(
        tuple(
            Piece(start=None if p.start is None else p.start * width, length=p.length * width)
            for p in pieces
        )
        for pieces in even_pieces(features, tp)
    )


def arrange_units(
    split: Split, size: int, heads: HeadLayout, head_dim: int
) -> tuple[tuple[Piece, ...], ...]:
    """`arrange`, unit by unit."""
    tp = len(heads.q_ranks)
    features = _features(split, size)
    per_rank = -(-features // tp)
    whole = _Units(
        query=range(heads.num_heads),
        kv=range(heads.num_kv_heads),
        feature=range(features),
        q_per_kv=heads.num_heads // heads.num_kv_heads,
    )
    starts: dict[tuple[int, int | None], int] = {}
    end = 0
    for number, unit in _in_order(split, whole):
        starts[number, unit] = end
        end += _width(split.parts[number], head_dim)
    ranks = []
    for rank in range(tp):
        first = rank * per_rank
        mine = _Units(
            query=heads.q_ranks[rank],
            kv=heads.kv_ranks[rank],
            feature=[f if f < features else None for f in range(first, first + per_rank)],
            q_per_kv=heads.q_per_kv,
        )
        pieces = [
            Piece(start=starts.get((number, unit)), length=_width(split.parts[number], head_dim))
            for number, unit in _in_order(split, mine)
        ]
        ranks.append(merge_pieces(pieces))
    return tuple(ranks)


def _features(split: Split, size: int) -> int:
    """Number of features; their parts share what there is evenly."""
    widths = [part.width or 1 for part in split.parts if part.unit == "feature"]
    return size // sum(widths) if widths else 0


def _width(part: Part, head_dim: int) -> int:
    return part.width or (1 if part.unit == "feature" else head_dim)


def _in_order(split: Split, units: _Units) -> Iterator[tuple[int, int | None]]:
    """Part number and unit, in the order they lie in the dim."""
    for chunk in range(split.chunks):
        runs = [_run(units.of(part), chunk, split.chunks) for part in split.parts]
        if split.order == "parts":
            for number, run in enumerate(runs):
                yield from ((number, unit) for unit in run)
            continue
        for group in range(len(_run(units.kv, chunk, split.chunks))):
            for number, (part, run) in enumerate(zip(split.parts, runs, strict=True)):
                step = units.q_per_kv if part.unit == "query" else 1
                yield from ((number, unit) for unit in run[group * step : (group + 1) * step])


def _run(units: Sequence[int | None], chunk: int, chunks: int) -> Sequence[int | None]:
    length = len(units) // chunks
    return units[chunk * length : (chunk + 1) * length]
