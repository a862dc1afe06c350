"""Traced program to StableHLO text, through torch-mlir.

torch-mlir's own StableHLO pipeline ends with a verifier that rejects calls, and our collectives
are calls at that point, so its passes are run by name. MLIR failures can abort the process; this
runs in a worker (`neuronc.lower.worker`).
"""

from collections.abc import Mapping, Sequence
from operator import getitem
from typing import Any

import torch
from torch_mlir import ir
from torch_mlir._mlir_libs import _stablehlo
from torch_mlir.dialects import torch as torch_dialect
from torch_mlir.extras.fx_decomp_util import get_decomposition_table
from torch_mlir.extras.fx_importer import FxImporter
from torch_mlir.passmanager import PassManager

from neuronc.lower.decompositions import OWN_DECOMPOSITIONS, TAKEN_AS_THEY_ARE
from neuronc.lower.flatten_linears import flatten_linears
from neuronc.lower.ir_dump import IRDump
from neuronc.lower.literals import DenseLiterals
from neuronc.lower.lowering_error import lowering_error
from neuronc.lower.simplify_graph import simplify_graph
from neuronc.trace.trace_program import TracedProgram

_TO_BACKEND_CONTRACT = (
    "builtin.module(func.func(torch-match-quantized-custom-ops),"
    # The empty extra-library= has to be written out: without it the pass aborts the process.
    "torchdynamo-export-to-torch-backend-pipeline{ extra-library=})"
)
_TO_STABLEHLO = (
    "builtin.module("
    "func.func(convert-torch-to-stablehlo{enable-static-shape=true enable-i32-index=true},"
    "chlo-legalize-to-stablehlo,convert-torch-to-arith,canonicalize,cse),"
    "torch-func-backend-type-conversion-for-stablehlo,"
    "func.func(canonicalize,torch-finalizing-backend-type-conversion-for-stablehlo,"
    "stablehlo-canonicalize-dynamism,"
    "stablehlo-aggressive-simplification,canonicalize,cse))"
)
CALL_PREFIX = "neuronc_"
"""Private functions with this prefix stand for collectives until StableHLO has its own."""


def traced_to_stablehlo(traced: TracedProgram, dump: IRDump, *, keeps_top_k: bool = False) -> str:
    """StableHLO text of ``traced`` with collectives as calls of undefined private functions.

    Its bodies are private functions under their own names, which ``main`` calls. With
    ``keeps_top_k`` a top-k is a sort of which the first elements are read.

    Raises:
        CompilerError: an operator does not lower; its module and line are named.
    """
    graphs = {"main": traced.exported, **traced.bodies}
    decomposed = {
        name: _decompose(exported, keeps_top_k=keeps_top_k) for name, exported in graphs.items()
    }
    dump.write("exported.txt", lambda: "\n".join(map(_readable, decomposed.values())))
    try:
        return _convert(decomposed, dump)
    except Exception as error:  # MLIR's own class, or whatever the importer meets
        found = [exported.graph for exported in (*decomposed.values(), *graphs.values())]
        raise lowering_error(error, found) from error


def _convert(decomposed: Mapping[str, torch.export.ExportedProgram], dump: IRDump) -> str:
    _stablehlo.register_stablehlo_passes()
    context = ir.Context()
    torch_dialect.register_dialect(context)
    importer = FxImporter(context=context, hooks=DenseLiterals())
    for name, exported in decomposed.items():
        visibility = None if name == "main" else "private"
        importer.import_frozen_program(exported, func_name=name, func_visibility=visibility)
    module = importer.module
    with context, ir.Location.unknown():
        _operators_to_calls(module)
        dump.write("torch.mlir", lambda: str(module))
        for pipeline in (_TO_BACKEND_CONTRACT, _TO_STABLEHLO):
            PassManager.parse(pipeline).run(module.operation)
        # With locations, by which what is refused later is named.
        text: str = module.operation.get_asm(enable_debug_info=True)
        return text


def _readable(exported: torch.export.ExportedProgram) -> str:
    text: str = exported.graph_module.print_readable(print_output=False)
    return text


def _decompose(
    exported: torch.export.ExportedProgram, *, keeps_top_k: bool
) -> torch.export.ExportedProgram:
    """Expand operators where torch-mlir needs it.

    Expanding retraces the program, which takes longer than all other lowering together. Programs
    whose operators torch-mlir expands rightly by itself, most decoders, skip it.
    """
    graph = exported.graph_module.graph
    simplify_graph(graph, keeps_top_k=keeps_top_k)
    used = {str(n.target) for n in graph.nodes if n.op == "call_function"}
    if used - {str(getitem)} <= TAKEN_AS_THEY_ARE:
        flatten_linears(graph)
        return exported
    table = {**get_decomposition_table(), **OWN_DECOMPOSITIONS}
    expanded: torch.export.ExportedProgram = exported.run_decompositions(table)
    return expanded


def _operators_to_calls(module: ir.Module) -> None:
    """Replace ``torch.operator "torch.neuronc.X"`` by calls, which the conversions pass through."""
    found: list[ir.Operation] = []

    def collect(op: ir.Operation) -> ir.WalkResult:
        if op.name == "torch.operator" and "torch.neuronc." in str(op.attributes["name"]):
            found.append(op)
        return ir.WalkResult.ADVANCE

    module.operation.walk(collect)
    declared: dict[str, str] = {}
    for op in found:
        name = ir.StringAttr(op.attributes["name"]).value.split(".")[2]
        if name == "layer":
            _call_body(op)
        else:
            _call_collective(module, op, name, declared)


def _call_body(op: ir.Operation) -> None:
    """A layer: its operator takes a list of tensors, a body's name and more, and gives a list."""
    gathered, name, _ = (operand.owner for operand in op.operands)
    (unpacked,) = (use.owner for use in op.results[0].uses)
    with ir.InsertionPoint(op):
        callee = ir.StringAttr(name.attributes["value"]).value
        call = _call(callee, gathered.operands, [result.type for result in unpacked.results])
    for old, new in zip(unpacked.results, call.results, strict=True):
        old.replace_all_uses_with(new)
    for dead in (unpacked, op, gathered):
        dead.operation.erase()


def _call_collective(
    module: ir.Module, op: ir.Operation, name: str, declared: dict[str, str]
) -> None:
    operand, result = op.operands[0], op.results[0]
    key = f"{name} {operand.type} {result.type}"
    if key not in declared:
        declared[key] = f"{CALL_PREFIX}{name}_{len(declared)}"
        function_type = ir.FunctionType.get([operand.type], [result.type])
        with ir.InsertionPoint.at_block_begin(module.body):
            ir.Operation.create(
                "func.func",
                attributes={
                    "sym_name": ir.StringAttr.get(declared[key]),
                    "function_type": ir.TypeAttr.get(function_type),
                    "sym_visibility": ir.StringAttr.get("private"),
                },
                regions=1,
            )
    with ir.InsertionPoint(op):
        call = _call(declared[key], [operand], [result.type])
    result.replace_all_uses_with(call.results[0])
    op.erase()


def _call(callee: str, operands: Sequence[Any], results: Sequence[Any]) -> ir.Operation:
    return ir.Operation.create(
        "func.call",
        results=list(results),
        operands=list(operands),
        attributes={"callee": ir.FlatSymbolRefAttr.get(callee)},
    )
