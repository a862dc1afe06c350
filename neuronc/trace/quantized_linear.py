"""Linear layers whose weights are quantised: read as they are stored, scaled after the product."""

from typing import Any

import torch
from torch import nn

from neuronc.dtypes import DTYPES
from neuronc.errors import InputError
from neuronc.parallel.plan import ParallelPlan
from neuronc.parallel.quantize import SCHEMES
from neuronc.parallel.stored import scale_rule
from neuronc.trace.collectives import all_reduce
from neuronc.trace.parallel_modules import InOutLinear, RowParallelLinear


class QuantizedLinear(nn.Module):
    """A linear layer of quantised ``weight`` and f32 ``weight_scale`` ``[out]``.

    A scale belongs to an output channel, so it is applied to the product, in f32: weights are
    converted only. On one of several row-parallel ranks the sum over the ranks follows, then the
    bias.

    Args:
        linear: The layer; its weight has the rank's shape.
        dtype: Of the stored weight.
        in_out: The weight is ``[in, out]``.
    """

    def __init__(self, linear: Any, *, dtype: torch.dtype, in_out: bool) -> None:
        super().__init__()
        shape = tuple(linear.weight.shape)
        self.weight = _parameter(shape, dtype)
        self.weight_scale = _parameter((shape[1 if in_out else 0],), torch.float32)
        self.bias, self.in_out = linear.bias, in_out
        self.sums = isinstance(linear, RowParallelLinear)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., in]`` to ``[..., out]`` in the dtype of ``x``."""
        weight = self.weight.to(x.dtype)
        product = torch.matmul(x, weight) if self.in_out else nn.functional.linear(x, weight)
        out = (product.to(torch.float32) * self.weight_scale).to(x.dtype)
        out = all_reduce(out) if self.sums else out
        return out if self.bias is None else out + self.bias


def quantize_linears(model: Any, plan: ParallelPlan, *, in_out: bool) -> None:
    """Put `QuantizedLinear` in the place of every layer whose weight ``plan`` quantises.

    Raises:
        InputError: such a layer is no linear layer.
    """
    from transformers.pytorch_utils import Conv1D

    if plan.quantize is None:
        return
    dtype = getattr(torch, DTYPES[SCHEMES[plan.quantize].dtype].torch)
    for rule in plan.rules.values():
        if rule.channel_dim is None:
            continue
        name = rule.name.removesuffix(".weight")
        module = model.get_submodule(name)
        if not isinstance(module, nn.Linear | Conv1D | InOutLinear | RowParallelLinear):
            message = f"{name!r} is a {type(module).__name__}, whose weight cannot be quantised"
            raise InputError(message, hint="leave out --quantize for this family")
        quantized = QuantizedLinear(module, dtype=dtype, in_out=in_out)
        assert quantized.weight_scale.shape == scale_rule(rule).rank_shape, "channels of the rank"
        model.set_submodule(name, quantized)


def _parameter(shape: tuple[int, ...], dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape, dtype=dtype, device="meta"), requires_grad=False)
