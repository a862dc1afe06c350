"""Each call of a shared layer becomes the layer's operators, so that a program is one function."""

from collections.abc import Iterator
from typing import Any

from jaxlib.mlir import ir


def inline_layers(module: ir.Module) -> None:
    """Replace every call in ``main`` of a function that has a body, and drop those functions."""
    functions = {ir.StringAttr(f.attributes["sym_name"]).value: f for f in module.body.operations}
    defined = {name: f for name, f in functions.items() if len(f.regions[0].blocks)}
    main = defined.pop("main")
    for call in list(main.regions[0].blocks[0].operations):
        callee = ir.FlatSymbolRefAttr(call.attributes["callee"]).value if _is_call(call) else ""
        if callee in defined:
            _inline(call, defined[callee].regions[0].blocks[0])
    for function in defined.values():
        function.operation.erase()


def _is_call(op: Any) -> bool:
    return bool(op.operation.name == "func.call")


def _inline(call: Any, body: Any) -> None:
    values = dict(zip(body.arguments, call.operands, strict=True))
    *operators, end = body.operations
    with ir.InsertionPoint(call):
        for operator in operators:
            copy = operator.operation.clone()
            for inner in (copy, *_nested(copy)):
                for number, operand in enumerate(inner.operands):
                    if operand in values:
                        inner.operands[number] = values[operand]
            values.update(zip(operator.operation.results, copy.results, strict=True))
    for result, value in zip(call.results, end.operands, strict=True):
        result.replace_all_uses_with(values.get(value, value))
    call.operation.erase()


def _nested(op: Any) -> Iterator[Any]:
    for region in op.regions:
        for block in region:
            for inner in block.operations:
                yield inner.operation
                yield from _nested(inner.operation)
