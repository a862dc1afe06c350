"""Attention masks by position, registered with transformers in place of its own.

transformers describes a mask (causal, sliding window, chunks) as a function of query and key
indices and has it evaluated by a function that an attention implementation may register. Ours
evaluates it at each token's own position in the slot cache, whatever family asks.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from neuronc.trace.context import current_program


def mask_by_position(
    batch_size: int,
    q_length: int,
    kv_length: int,
    *,
    mask_function: Callable[..., torch.Tensor],
    dtype: torch.dtype = torch.float32,
    **_: Any,
) -> torch.Tensor:
    """``[N, 1, S, L]``: 0 where ``mask_function`` lets a query see a key, else the lowest number.

    The arguments are those of transformers' mask functions (``masking_utils.eager_mask``). What
    they say of padding is not looked at: a slot's unused positions come after its last query, and
    the lengths of texts are the program's.
    """
    lengths = current_program().lengths
    queries = current_program().positions_NS[:, None, :, None]
    keys = torch.arange(kv_length, dtype=queries.dtype)[None, None, None, :]
    rows = torch.arange(batch_size, dtype=queries.dtype)[:, None, None, None]
    visible = mask_function(rows, torch.zeros_like(rows), queries, keys)
    if lengths is not None:
        visible = visible & (keys < lengths[:, None, None, None])
    visible = visible.expand(batch_size, 1, q_length, kv_length)
    return torch.where(visible, torch.zeros((), dtype=dtype), torch.finfo(dtype).min)


class MaskByPosition:
    """In place of a family's table of which token sees which: any slice of it is this program's.

    Args:
        window: Keys that a query sees, itself among them; None for all before it.
    """

    def __init__(self, window: int | None) -> None:
        self.window = window

    def __getitem__(self, _: object) -> torch.Tensor:
        """``[N, 1, S, L]`` bool."""
        program = current_program()
        queries = program.positions_NS[:, None, :, None]
        keys = torch.arange(program.key_length, dtype=queries.dtype)[None, None, None, :]
        visible = keys <= queries
        if self.window is not None:
            visible = visible & (keys > queries - self.window)
        return visible


def mask_plainly(attention: nn.Module) -> None:
    """Let ``attention`` be called with the causal mask alone as its ``attention_mask``."""
    visible = MaskByPosition(window=None)

    def hook(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        dtype = kwargs["attention_mask"].dtype
        mask = torch.where(visible[...], torch.zeros((), dtype=dtype), torch.finfo(dtype).min)
        return args, {**kwargs, "attention_mask": mask}

    attention.register_forward_pre_hook(hook, with_kwargs=True)


@contextmanager
def masked_by_position(attention: str) -> Iterator[None]:
    """Within, models with ``attention`` and those with eager attention are masked by position.

    Families that do not take registered attention functions run eagerly, so transformers' own
    function for that is replaced meanwhile, in the whole process.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS as functions

    functions.register(attention, mask_by_position)
    functions["eager"] = mask_by_position
    try:
        yield
    finally:
        del functions["eager"]
