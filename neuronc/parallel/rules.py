"""How one tensor is laid over the ranks: whole, or as pieces along one dim."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Role = Literal["replicate", "column", "row", "gather", "vocab_embedding", "vocab_head"]
"""What the module that owns a parameter does with it.

``column``: output dim split, result stays on the rank. ``row``: input dim split, an all-reduce
follows. ``gather``: output dim split, an all-gather follows. ``vocab_embedding``: rows of the table split, an all-reduce follows. ``vocab_head``:
output dim split, an all-gather follows. ``replicate``: every rank holds it whole.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """``length`` consecutive indices along the split dim, from ``start`` or zeros if None."""

    start: int | None
    length: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ParamRule:
    """Where one parameter goes.

    Attributes:
        name: The parameter's name in the checkpoint.
        role: See `Role`.
        shape: Its shape in the checkpoint.
        dim: The dim that is split; None when the role is ``replicate``.
        ranks: Per rank, the pieces that make up its shard along ``dim``, in order. All ranks'
            pieces add up to the same length, so that every rank runs the same program.
        channel_dim: Of a weight that is stored quantised: the dim of its output channels.
        padding: Value of indices that are not the tensor's.
    """

    name: str
    role: Role
    shape: tuple[int, ...]
    dim: int | None = None
    ranks: tuple[tuple[Piece, ...], ...] = ()
    channel_dim: int | None = None
    padding: int = 0

    @property
    def rank_shape(self) -> tuple[int, ...]:
        """Shape of one rank's shard."""
        if self.dim is None:
            return self.shape
        length = sum(piece.length for piece in self.ranks[0])
        return (*self.shape[: self.dim], length, *self.shape[self.dim + 1 :])


def merge_pieces(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """The same pieces with neighbours that continue each other joined."""
    merged: list[Piece] = []
    for piece in pieces:
        last = merged[-1] if merged else None
        if last is not None and _continues(last, piece):
            merged[-1] = Piece(start=last.start, length=last.length + piece.length)
        else:
            merged.append(piece)
    return tuple(merged)


def _continues(last: Piece, piece: Piece) -> bool:
    if last.start is None or piece.start is None:
        return last.start is None and piece.start is None
    return last.start + last.length == piece.start


def units_to_pieces(units: Sequence[int | None], unit_size: int) -> tuple[Piece, ...]:
    """Pieces for a list of unit numbers (heads, say) of ``unit_size`` indices; None is zeros."""
    pieces = [
        Piece(start=None if unit is None else unit * unit_size, length=unit_size) for unit in units
    ]
    return merge_pieces(pieces)


def even_pieces(size: int, tp: int) -> tuple[tuple[Piece, ...], ...]:
    """``size`` in ``tp`` equal runs, the last ones padded with zeros where ``tp`` does not divide."""
    step = -(-size // tp)
    ranks = []
    for rank in range(tp):
        real = max(0, min(step, size - rank * step))
        pieces = [Piece(start=rank * step, length=real)] if real else []
        if real < step:
            pieces.append(Piece(start=None, length=step - real))
        ranks.append(tuple(pieces))
    return tuple(ranks)


def is_layout(rule: ParamRule, tp: int) -> bool:
    """Whether ``rule``, read from a file, gives every rank pieces of one length together.

    No piece leaves the tensor, and no index of it is left out.
    """
    sizes = rule.shape
    if rule.role not in get_args(Role) or any(type(n) is not int or n < 0 for n in sizes):
        return False
    if rule.channel_dim is not None and not _has_channels(rule):
        return False
    if rule.dim is None:
        return not rule.ranks
    if type(rule.dim) is not int or not 0 <= rule.dim < len(sizes) or len(rule.ranks) != tp:
        return False
    pieces = [piece for rank in rule.ranks for piece in rank]
    starts = [piece.start for piece in pieces if piece.start is not None]
    if any(type(n) is not int for n in (*starts, *(piece.length for piece in pieces))):
        return False
    even = len({sum(p.length for p in rank) for rank in rule.ranks}) == 1
    return even and all(p.length > 0 for p in pieces) and _cover(pieces, sizes[rule.dim])


def _has_channels(rule: ParamRule) -> bool:
    """Whether ``channel_dim`` is the output dim that the role of a quantised weight says."""
    if type(rule.channel_dim) is not int or rule.channel_dim not in (0, 1) or len(rule.shape) != 2:
        return False
    split_dims = {"column": rule.channel_dim, "row": 1 - rule.channel_dim, "replicate": None}
    return rule.role in split_dims and rule.dim == split_dims[rule.role]


def _cover(pieces: Sequence[Piece], size: int) -> bool:
    """Whether the pieces that are not zeros lie inside ``size`` indices and leave out none."""
    end = 0
    for start, length in sorted((p.start, p.length) for p in pieces if p.start is not None):
        if not 0 <= start <= end or start + length > size:
            return False
        end = max(end, start + length)
    return end == size
