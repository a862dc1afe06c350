"""Which attention heads go to which rank.

Every rank must run the same program, so all ranks get the same number of KV slots, each serving
the same number of query slots. Two exact means make any head count fit: a KV head may live on
several ranks (replication), and a slot may be empty (zero weights; its output meets zero columns
of the output projection and adds nothing).
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadLayout:
    """The heads of every rank.

    Attributes:
        q_per_kv: Query slots that share one KV slot on a rank.
        kv_per_rank: KV slots on each rank.
        q_ranks: Per rank, the query head in each slot, None for an empty one.
        kv_ranks: Per rank, the KV head in each slot, None for an empty one.
        num_heads: Query heads of the model.
        num_kv_heads: KV heads of the model.
    """

    q_per_kv: int
    kv_per_rank: int
    q_ranks: tuple[tuple[int | None, ...], ...]
    kv_ranks: tuple[tuple[int | None, ...], ...]
    num_heads: int
    num_kv_heads: int

    @property
    def q_per_rank(self) -> int:
        """Query slots on each rank."""
        return self.q_per_kv * self.kv_per_rank

    @property
    def extra_q_heads(self) -> int:
        """Query slots over all ranks beyond the model's own heads."""
        return self.q_per_rank * len(self.q_ranks) - self.num_heads

    @property
    def extra_kv_heads(self) -> int:
        """KV slots over all ranks beyond the model's own heads (empty or replicated)."""
        return self.kv_per_rank * len(self.kv_ranks) - self.num_kv_heads


def lay_out_heads(num_heads: int, num_kv_heads: int, tp: int, *, multiple: int = 1) -> HeadLayout:
    """The cheapest layout for ``tp`` ranks with a multiple of ``multiple`` KV slots on each.

    A KV head's ``group`` query heads are cut into chunks of ``q_per_kv``; each chunk takes one KV
    slot. All chunk sizes are tried; the one with the fewest projection rows wins, then the one
    with the smaller KV cache.
    """
    group = num_heads // num_kv_heads

    def slots_per_rank(q_per_kv: int) -> int:
        needed = -(-num_kv_heads * -(-group // q_per_kv) // tp)
        return -(-needed // multiple) * multiple

    def cost(q_per_kv: int) -> tuple[int, int]:
        kv_slots = slots_per_rank(q_per_kv)
        return kv_slots * (q_per_kv + 1), kv_slots

    q_per_kv = min(range(group, 0, -1), key=cost)
    return _fill(num_heads, num_kv_heads, tp, q_per_kv, slots_per_rank(q_per_kv))


def _fill(num_heads: int, num_kv_heads: int, tp: int, q_per_kv: int, per_rank: int) -> HeadLayout:
    group = num_heads // num_kv_heads
    chunks: list[tuple[int | None, tuple[int | None, ...]]] = []
    for kv in range(num_kv_heads):
        for first in range(0, group, q_per_kv):
            heads = [kv * group + h for h in range(first, min(first + q_per_kv, group))]
            chunks.append((kv, (*heads, *[None] * (q_per_kv - len(heads)))))
    chunks += [(None, (None,) * q_per_kv)] * (tp * per_rank - len(chunks))
    ranks = [chunks[r * per_rank : (r + 1) * per_rank] for r in range(tp)]
    return HeadLayout(
        q_per_kv=q_per_kv,
        kv_per_rank=per_rank,
        q_ranks=tuple(tuple(q for _, qs in rank for q in qs) for rank in ranks),
        kv_ranks=tuple(tuple(kv for kv, _ in rank) for rank in ranks),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
    )
