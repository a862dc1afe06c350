"""Decompositions that keep f64 out of a program.

torch-mlir expands variance through f64 accumulation, which no Neuron device has; variance
is therefore expanded here, in the input's own precision.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

_aten = torch.ops.aten


def _var_mean(
    x: torch.Tensor,
    dim: Sequence[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    dims = list(range(x.dim())) if dim is None else list(dim)
    count = 1
    for d in dims:
        count *= x.shape[d]
    mean = x.mean(dims, keepdim=True)
    total = ((x - mean) * (x - mean)).sum(dims, keepdim=keepdim)
    unbiased = 1.0 if correction is None else float(correction)
    return total / (count - unbiased), mean if keepdim else x.mean(dims)


def _var(
    x: torch.Tensor,
    dim: Sequence[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> torch.Tensor:
    return _var_mean(x, dim, correction=correction, keepdim=keepdim)[0]


OWN_DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    _aten.var_mean.correction: _var_mean,
    _aten.var.correction: _var,
}
"""Operator to its expansion; takes precedence over torch-mlir's table."""

_ELEMENTWISE = (
    "add.Tensor cos.default div.Tensor exp.default gelu.default mul.Tensor neg.default"
    " pow.Tensor_Scalar relu.default rsqrt.default rsub.Scalar sigmoid.default silu.default"
    " sin.default sqrt.default sub.Tensor tanh.default to.device to.dtype"
)
_OTHERS = (
    "__and__.Tensor alias.default amax.default amin.default arange.default cat.default"
    " clamp.default contiguous.default embedding.default eq.Tensor expand.default"
    " expand_as.default ge.Scalar gt.Scalar index_put.default index_select.default le.Tensor"
    " linear.default lt.Scalar matmul.default mean.dim reshape.default select.int slice.Tensor"
    " softmax.int transpose.int unsqueeze.default"
    " view.default where.ScalarOther where.self zeros.default zeros_like.default"
)
TAKEN_AS_THEY_ARE = frozenset(
    [f"aten.{name}" for name in (*_ELEMENTWISE.split(), *_OTHERS.split())]
    + ["neuronc.all_reduce.default", "neuronc.all_gather.default", "neuronc.layer.default"]
)
"""Operators that torch-mlir lowers to the same numbers without an expansion of ours."""
