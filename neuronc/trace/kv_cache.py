"""A KV cache of fixed length whose tensors are inputs and outputs of the traced program.

Layout of one layer's keys (and values): ``[batch, length, kv_heads, head_dim]``, batch = slots.
Writing at (slot, position) then is one window scatter per layer, with a position per slot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

# B slots, L cache length, S new tokens per sequence, K kv heads, D head dim


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerCache:
    """What one attention layer keeps of a token: ``[kv_heads, dim]`` of keys and of values."""

    keys: tuple[int, int]
    values: tuple[int, int]


class SlotCacheLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values for the slots that take part in a program.

    Args:
        keys_BLKD: All slots' keys; replaced, not mutated, by `update`. None if it keeps none.
        values_BLKD: All slots' values.
        slots: ``[N]`` which slots the N sequences of this call live in, or None for all in order.
        positions_NS: ``[N, S]`` where the S new tokens of each sequence go.
        key_length: How many cache positions attention sees (a decode bucket).
    """

    is_compileable = True

    def __init__(
        self,
        keys_BLKD: Any,
        values_BLKD: Any,
        *,
        slots: torch.Tensor | None,
        positions_NS: torch.Tensor,
        key_length: int,
    ) -> None:
        super().__init__()
        self.keys, self.values = keys_BLKD, values_BLKD
        self.slots, self.positions_NS, self.key_length = slots, positions_NS, key_length
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write ``[N, K, S, D]`` states and give back what attention sees, ``[N, K, L', D]``."""
        self.keys = self._write(self.keys, key_states)
        self.values = self._write(self.values, value_states)
        return self._visible(self.keys), self._visible(self.values)

    def _write(self, cache_BLKD: torch.Tensor, states_NKSD: torch.Tensor) -> torch.Tensor:
        new_NSKD = states_NKSD.transpose(1, 2).to(cache_BLKD.dtype)
        rows = self.slots
        if rows is None:
            rows = torch.arange(cache_BLKD.shape[0], dtype=self.positions_NS.dtype)
        rows_NS = rows[:, None].expand_as(self.positions_NS)
        return torch.index_put(cache_BLKD, (rows_NS, self.positions_NS), new_NSKD)

    def _visible(self, cache_BLKD: torch.Tensor) -> torch.Tensor:
        rows = cache_BLKD if self.slots is None else torch.index_select(cache_BLKD, 0, self.slots)
        return rows[:, : self.key_length].transpose(1, 2)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to do: the tensors are given."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys seen by attention and their offset, as transformers' mask code asks for them."""
        return self.key_length, 0

    def get_seq_length(self) -> int:
        """Unknown to the program (positions are inputs); 0 keeps transformers from slicing."""
        return 0

    def get_max_length(self) -> int:
        """Cache positions per slot."""
        return self.key_length


class ProbingCacheLayer(SlotCacheLayer):
    """Takes whatever a layer stores, and remembers its shape.

    Args:
        slots_and_length: Slots, and cache positions of each.
        place: What `SlotCacheLayer` is told beside its keys and values.
    """

    found: LayerCache | None = None

    def __init__(self, slots_and_length: tuple[int, int], **place: Any) -> None:
        super().__init__(None, None, **place)
        self.slots_and_length = slots_and_length

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As a cache that was empty before."""
        if self.found is None:
            self.found = LayerCache(
                keys=(key_states.shape[1], key_states.shape[3]),
                values=(value_states.shape[1], value_states.shape[3]),
            )
            self.keys = key_states.new_zeros((*self.slots_and_length, *self.found.keys))
            self.values = value_states.new_zeros((*self.slots_and_length, *self.found.values))
        return super().update(key_states, value_states)


def slot_cache(
    caches: Mapping[str, torch.Tensor],
    num_layers: int,
    *,
    slots: torch.Tensor | None,
    positions_NS: torch.Tensor,
    key_length: int,
) -> Cache:
    """A transformers cache of one `SlotCacheLayer` per layer.

    ``caches`` has ``keys.N`` and ``values.N`` for each layer N that keeps any.
    """
    layers = [
        SlotCacheLayer(
            caches.get(f"keys.{number}"),
            caches.get(f"values.{number}"),
            slots=slots,
            positions_NS=positions_NS,
            key_length=key_length,
        )
        for number in range(num_layers)
    ]
    return Cache(layers=layers)


def probing_cache(num_layers: int, slots_and_length: tuple[int, int], **place: Any) -> Cache:
    """A cache of layers that remember what they are asked to keep; see `ProbingCacheLayer`."""
    return Cache(layers=[ProbingCacheLayer(slots_and_length, **place) for _ in range(num_layers)])
