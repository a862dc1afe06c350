"""Linear layers that read the same input as one product: query, key, value; gate and up.

XLA:CPU wakes its threads for every product and sets each one up on its first run; in the
matrix-vector products of a decode step that is a tenth of the time. The weights are laid one
after the other as they are loaded; every output element is the sum it was before. Quantised
weights are merged as they are stored; their scales come after the product and stay apart.
"""

from dataclasses import replace
from itertools import accumulate
from typing import Any

from jax.interpreters.mlir import make_ir_context
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo as hlo

from neuronc.targets.cpu_few_rows import stored_weight
from neuronc.targets.cpu_ir import dims_of, main_of, part_of
from neuronc.trace.program_spec import MergedWeights, ProgramSignature


def merge_linears(text: str, signature: ProgramSignature) -> tuple[str, MergedWeights]:
    """StableHLO ``text`` with fewer, larger products, and the weights that each of them takes.

    The new text has the inputs of `merge_inputs` and the outputs it had.
    """
    with make_ir_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        main = main_of(module)
        groups = _groups(main, signature)
        # in the order of the rank files, where neighbours need not be copied together
        numbers = [sorted(_weight_number(op) for op in group) for group in groups]
        for group in groups:
            _merge(group)
        block = main.regions[0].blocks[0]
        for number in sorted((n for group in numbers for n in group[1:]), reverse=True):
            block.erase_argument(number)
        inputs = [argument.type for argument in block.arguments]
        outputs = main.attributes["function_type"].value.results
        main.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(inputs, outputs))
        names = [tensor.name for tensor in signature.inputs]
        return str(module), tuple(tuple(names[n] for n in group) for group in numbers)


def merge_inputs(signature: ProgramSignature, merged: MergedWeights) -> ProgramSignature:
    """``signature`` with each group's first weight grown by the others, which are left out.

    Args:
        signature: Of the program as it was traced.
        merged: Names of weights ``[out_i, in]``, a group per product; groups do not overlap.
    """
    by_name = {tensor.name: tensor for tensor in signature.inputs}
    grown = {
        group[0]: (sum(by_name[name].shape[0] for name in group), *by_name[group[0]].shape[1:])
        for group in merged
    }
    left_out = {name for group in merged for name in group[1:]}
    kept = [i for i, tensor in enumerate(signature.inputs) if tensor.name not in left_out]
    inputs = tuple(
        replace(t, shape=grown.get(t.name, t.shape)) for t in (signature.inputs[i] for i in kept)
    )
    aliases = {out: kept.index(number) for out, number in signature.aliases.items()}
    return replace(signature, inputs=inputs, aliases=aliases)


def _groups(main: Any, signature: ProgramSignature) -> list[list[Any]]:
    """Products of one input with two or more weights that nothing else reads."""
    by_input: dict[Any, list[Any]] = {}
    for op in main.regions[0].blocks[0].operations:
        if op.name == "stablehlo.dot_general" and _is_linear(op, signature):
            stored = stored_weight(op.operands[1]).type.element_type
            by_input.setdefault((op.operands[0], str(stored)), []).append(op)
    return [group for group in by_input.values() if len(group) > 1]


def _is_linear(op: Any, signature: ProgramSignature) -> bool:
    """Whether this is ``x[rows, in]`` times ``weight[out, in]``, the weight's only reader."""
    x, weight = op.operands
    if len(x.type.shape) != 2 or len(weight.type.shape) != 2:
        return False
    stored = stored_weight(weight)
    if not isinstance(stored, ir.BlockArgument):
        return False
    if len(list(stored.uses)) > 1 or len(list(weight.uses)) > 1:
        return False
    if signature.inputs[stored.arg_number].kind != "weight":
        return False
    elements = {str(v.type.element_type) for v in (x, weight, op.results[0])}
    return dims_of(op, "contracting") == ([1], [1]) and len(elements) == 1


def _weight_number(op: Any) -> int:
    return int(stored_weight(op.operands[1]).arg_number)


def _merge(group: list[Any]) -> None:
    """One product where the first of ``group`` was; the results are slices of it."""
    place, members = group[0], sorted(group, key=_weight_number)
    x, stored = members[0].operands[0], stored_weight(members[0].operands[1])
    ends = list(accumulate(op.results[0].type.shape[1] for op in members))
    rows, element = x.type.shape[0], x.type.element_type
    shape = (ends[-1], stored.type.shape[1])
    stored.set_type(ir.RankedTensorType.get(shape, stored.type.element_type))
    wide = ir.RankedTensorType.get(shape, element)
    converts = [
        op.operands[1].owner for op in members if op.operands[1] != stored_weight(op.operands[1])
    ]
    with ir.InsertionPoint(place):
        weight = hlo.convert(wide, stored) if converts else stored
        product = ir.Operation.create(
            "stablehlo.dot_general",
            results=[ir.RankedTensorType.get((rows, ends[-1]), element)],
            operands=[x, weight],
            attributes={name: place.attributes[name] for name in place.attributes},
        ).results[0]
        for op, end in zip(members, ends, strict=True):
            begin = end - op.results[0].type.shape[1]
            op.results[0].replace_all_uses_with(part_of(product, [0, begin], [rows, end]))
    for op in (*group, *converts):
        op.erase()
