"""The two collectives a rank's program uses, as torch operators that tracing can see.

On one process they have no meaning of their own: the fake implementations give shapes to
`torch.export`, and lowering puts the real StableHLO collective in their place.
"""

import torch

NAMESPACE = "neuronc"


@torch.library.custom_op(f"{NAMESPACE}::all_reduce", mutates_args=())
def all_reduce(x: torch.Tensor) -> torch.Tensor:
    """Sum of ``x`` over all ranks, same shape and dtype on every rank."""
    message = "neuronc::all_reduce exists for tracing only"
    raise RuntimeError(message)


@all_reduce.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


@torch.library.custom_op(f"{NAMESPACE}::all_gather", mutates_args=())
def all_gather(x: torch.Tensor, tp: int) -> torch.Tensor:
    """The ranks' ``x`` side by side along the last dim: ``[..., n]`` becomes ``[..., tp * n]``."""
    message = "neuronc::all_gather exists for tracing only"
    raise RuntimeError(message)


@all_gather.register_fake
def _(x: torch.Tensor, tp: int) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], x.shape[-1] * tp))
