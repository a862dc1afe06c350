"""An operator that does not lower is told with its module and line."""

import inspect
from collections.abc import Callable

import pytest
import torch
from torch import nn

from neuronc.errors import CompilerError
from neuronc.lower.finish_stablehlo import finish_stablehlo
from neuronc.lower.ir_dump import IRDump
from neuronc.lower.lowering_error import lowering_error
from neuronc.lower.torch_to_stablehlo import traced_to_stablehlo
from neuronc.trace.module_names import naming_modules
from neuronc.trace.program_spec import ProgramSignature, ProgramSpec
from neuronc.trace.trace_program import TracedProgram


class Layer(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x + 1)


class Program(nn.Module):
    """A model held as programs hold it: no submodule."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.held = (model,)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.held[0](x),)


def trace(function: Callable[[torch.Tensor], torch.Tensor]) -> TracedProgram:
    model = nn.Sequential(nn.ReLU(), Layer(function))
    with naming_modules(model):
        exported = torch.export.export(Program(model), (torch.zeros(4, 4),), strict=False)
    spec = ProgramSpec(phase="decode", bucket=1, batch_size=1, max_length=1)
    signature = ProgramSignature(inputs=(), outputs=(), aliases={})
    return TracedProgram(spec=spec, signature=signature, exported=exported, bodies={})


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch about itself
@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (torch.special.bessel_j0, "aten.special_bessel_j0"),
        (torch.linalg.matrix_exp, "aten.linalg_matrix_exp"),
        (lambda x: torch.cdist(x, x), "aten._cdist_forward"),  # after an expansion
    ],
)
def test_operator_module_and_line_are_named(
    function: Callable[[torch.Tensor], torch.Tensor], operator: str
) -> None:
    place = rf"test_lowering_error\.py:{_line_of_call()}"

    with pytest.raises(CompilerError) as told:
        traced_to_stablehlo(trace(function), IRDump(None))

    assert told.match(rf"^operator {operator} of 1 at .*{place} does not lower to StableHLO$")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_lowers_to_a_type_that_no_target_takes_is_named_too() -> None:
    traced = trace(lambda x: x.double().sin().float())
    lowered = traced_to_stablehlo(traced, IRDump(None))

    with pytest.raises(CompilerError) as told:
        finish_stablehlo(lowered, tp=1, graphs=traced.graphs)

    assert told.match(
        rf"^operator .*aten\.sin.* of 1 at .*test_lowering_error\.py:{_line_of_call()}"
        " lowers to element type f64, which no target takes$"
    )


def _line_of_call() -> int:
    lines, first = inspect.getsourcelines(Layer)
    return first + next(i for i, line in enumerate(lines) if "self.function(x" in line)


def test_what_cannot_be_read_is_given_as_it_is() -> None:
    found = lowering_error(RuntimeError("the pipeline\n  broke"), [])

    assert "torch-mlir does not take the program: the pipeline broke" in found.message


def test_what_lowers_is_not_touched() -> None:
    assert "stablehlo.add" in traced_to_stablehlo(trace(torch.relu), IRDump(None))
