"""What a model raises while it is traced is told with its operator, module and line."""

import inspect

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from neuronc.errors import CompilerError, InputError
from neuronc.trace.trace_error import naming_errors


class Router(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[: int(x.sum().item())]


class Refuses(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        message = "no such\n  cache"
        raise ValueError(message)


def line_of(kind: type, code: str) -> int:
    lines, first = inspect.getsourcelines(kind)
    return first + next(i for i, line in enumerate(lines) if code in line)


def test_an_operator_that_needs_data_is_named_with_its_module_and_line() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Sequential(Router()))

    with pytest.raises(CompilerError) as told, naming_errors(model), FakeTensorMode():
        model(torch.ones(4))

    assert told.match(
        r"^operator aten\._local_scalar_dense of 1\.0 at .*test_trace_error\.py:"
        rf"{line_of(Router, 'item()')} cannot be traced: DataDependentOutputException"
    )


def test_any_other_exception_is_told_with_its_module_and_line() -> None:
    model = nn.Sequential(nn.ReLU(), Refuses())

    with pytest.raises(CompilerError) as told, naming_errors(model):
        model(torch.ones(4))

    place = rf"test_trace_error\.py:{line_of(Refuses, 'raise')}"
    assert told.match(rf"^module 1 at .*{place} cannot be traced: ValueError: no such cache$")


def test_an_error_of_ours_stays_what_it_is() -> None:
    with pytest.raises(InputError, match="own"), naming_errors(nn.ReLU()):
        raise InputError("own")  # noqa: EM101
