"""Exported program to StableHLO text, through torch-mlir.

torch-mlir's own StableHLO pipeline ends with a verifier that rejects calls, and our collectives
are calls at that point, so its passes are run by name. MLIR failures can abort the process; this
runs in a worker (`neuronc.lower.worker`).
"""

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
from neuronc.lower.simplify_graph import simplify_graph

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


def exported_to_stablehlo(exported: torch.export.ExportedProgram, dump: IRDump) -> str:
    """StableHLO text of ``exported`` with collectives as calls of undefined private functions."""
    decomposed = _decompose(exported)
    dump.write("exported.txt", lambda: decomposed.graph_module.print_readable(print_output=False))
    _stablehlo.register_stablehlo_passes()
    context = ir.Context()
    torch_dialect.register_dialect(context)
    importer = FxImporter(context=context, hooks=DenseLiterals())
    importer.import_frozen_program(decomposed, func_name="main")
    module = importer.module
    with context, ir.Location.unknown():
        _collectives_to_calls(module)
        dump.write("torch.mlir", lambda: str(module))
        for pipeline in (_TO_BACKEND_CONTRACT, _TO_STABLEHLO):
            PassManager.parse(pipeline).run(module.operation)
        return str(module)


def _decompose(exported: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Expand operators where torch-mlir needs it.

    Expanding retraces the program, which takes longer than all other lowering together. Programs
    whose operators torch-mlir expands rightly by itself, most decoders, skip it.
    """
    graph = exported.graph_module.graph
    simplify_graph(graph)
    used = {str(n.target) for n in graph.nodes if n.op == "call_function"}
    if used <= TAKEN_AS_THEY_ARE:
        flatten_linears(graph)
        return exported
    table = {**get_decomposition_table(), **OWN_DECOMPOSITIONS}
    expanded: torch.export.ExportedProgram = exported.run_decompositions(table)
    return expanded


def _collectives_to_calls(module: ir.Module) -> None:
    """Replace ``torch.operator "torch.neuronc.X"`` by calls, which the conversions pass through."""
    found: list[ir.Operation] = []

    def collect(op: ir.Operation) -> ir.WalkResult:
        if op.name == "torch.operator" and "torch.neuronc." in str(op.attributes["name"]):
            found.append(op)
        return ir.WalkResult.ADVANCE

    module.operation.walk(collect)
    declared: set[str] = set()
    for op in found:
        _replace_by_call(module, op, declared)


def _replace_by_call(module: ir.Module, op: ir.Operation, declared: set[str]) -> None:
    name = ir.StringAttr(op.attributes["name"]).value.split(".")[2]
    operand, result = op.operands[0], op.results[0]
    callee = f"{CALL_PREFIX}{name}_{len(declared)}"
    known = {d.split("|")[1]: d.split("|")[0] for d in declared}
    key = f"{name} {operand.type} {result.type}"
    if key in known:
        callee = known[key]
    else:
        declared.add(f"{callee}|{key}")
        function_type = ir.FunctionType.get([operand.type], [result.type])
        with ir.InsertionPoint.at_block_begin(module.body):
            ir.Operation.create(
                "func.func",
                attributes={
                    "sym_name": ir.StringAttr.get(callee),
                    "function_type": ir.TypeAttr.get(function_type),
                    "sym_visibility": ir.StringAttr.get("private"),
                },
                regions=1,
            )
    with ir.InsertionPoint(op):
        call = ir.Operation.create(
            "func.call",
            results=[result.type],
            operands=[operand],
            attributes={"callee": ir.FlatSymbolRefAttr.get(callee)},
        )
    result.replace_all_uses_with(call.results[0])
    op.erase()
