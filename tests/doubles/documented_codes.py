"""What neuronx-cc refuses, by the pages of its error codes; written apart from the package's rules.

Only what a page states plainly is here: no estimate, no vendor kernel. Source: Neuron SDK 2.32,
compiler/error-codes; EVRF029 from public reports.
"""

from collections.abc import Callable, Iterator
from math import prod

from tests.doubles.wire import Instruction, Shape, read_module

_S32, _S64, _U32, _U64, _F32, _F64, _C64, _C128 = 4, 5, 8, 9, 11, 12, 15, 18
_SUPPORTED = {1, 2, 4, 6, 8, 10, 11, 13, 16, 19, 20, 28, 29}
_FNUZ = (23, 24, 25)
_E4M3FN = 20
_BYTES = {1: 1, 2: 1, 4: 4, 6: 1, 8: 4, 10: 2, 11: 4, 16: 2}
_GIB = 2**30
_HBM = {"inf2": 16 * _GIB, "trn1": 16 * _GIB, "trn1n": 16 * _GIB, "trn2": 24 * _GIB}
OPERATORS = (
    "Abs", "Add", "Allgather", "Allreduce", "Atan2", "BitcastConvertType", "Broadcast",
    "BroadcastInDim", "Ceil", "Clamp", "Compare", "Concatenate", "Constant", "ConvertElementType",
    "Cos", "Customcall", "Div", "Dot", "DotGeneral", "DynamicUpdateSlice", "Exp", "Floor", "Gather",
    "GetTupleElement", "Iota", "Log", "Max", "Min", "Mul", "Neg", "Pad", "Pow", "Reduce", "Reshape",
    "Rev", "Rsqrt", "Scatter", "Select", "Sign", "Sin", "Slice", "Sqrt", "Sub", "Tanh", "Transpose",
    "Tuple",
)  # fmt: skip
"""What ``list-operators`` prints: a part of the list that the SDK publishes."""

_NO_LOWERING = (
    "triangular-solve", "cholesky", "fft", "topk", "conditional", "reduce-precision", "infeed",
    "outfeed",
)  # fmt: skip
_CALLS = ("AwsNeuron", "Resize", "NeuronBoundaryMarker-", "QuantizeMX", "__op$block_scaled_dot")


def refuse_documented(raw: bytes, *, target: str, lnc: int, args: str = "") -> None:
    """Read a serialized ``xla.HloModuleProto``.

    Raises:
        ValueError: the compiler refuses it; begins with ``NCC_`` and the code.
    """
    computations, entry = read_module(raw)
    for instructions in computations.values():
        for one in instructions:
            for shape in _flat(one.shape):
                _refuse_shape(one, shape, target, args)
            for code, is_refused, text in _RULES:
                if is_refused(one, target, args):
                    message = f"NCC_{code} {text}: {one.name} ({one.opcode})"
                    raise ValueError(message)
    _refuse_size(entry, target, lnc)


def _flat(shape: Shape) -> Iterator[Shape]:
    yield shape
    for part in shape.parts:
        yield from _flat(part)


def _refuse_shape(one: Instruction, shape: Shape, target: str, args: str) -> None:
    found = ""
    if shape.is_dynamic:
        found = "EMOD025 Dynamic dimensions are not supported"
    elif shape.kind in (_C64, _C128):
        found = "EVRF004 Complex data types are not supported"
    elif shape.kind in _FNUZ:
        found = "EVRF005 FNUZ data types are not supported"
    elif shape.kind == _E4M3FN and target != "trn3" and "unsafe-fp8e4m3fn" not in args:
        found = "EVRF051 F8E4M3FN is not supported on this target"
    elif shape.kind not in _SUPPORTED and shape.kind not in (_S64, _U64):
        found = "ESPP004 No code generation for this data type"
    if found:
        message = f"NCC_{found}: {one.name} ({one.opcode})"
        raise ValueError(message)


def _is_of(one: Instruction, kinds: tuple[int, ...]) -> bool:
    return bool(one.operands) and one.operands[0].shape.kind in kinds


def _downcast(args: str, what: str) -> bool:
    """Whether integers may be cast down in this operator; so it is unless somebody says other."""
    for arg in args.split():
        name, _, value = arg.partition("=")
        if name == "--implicit-integer-downcast":
            return value in ("default", "all") or what in value.split(",")
    return True


def _wide_dot(one: Instruction, target: str, args: str) -> bool:
    kinds = (_S64, _U64) if target in ("inf2", "trn1", "trn1n") else (_S32, _U32, _S64, _U64)
    return one.opcode == "dot" and _is_of(one, kinds) and not _downcast(args, "dot")


def _wide_sum(opcode: str) -> Callable[[Instruction, str, str], bool]:
    def rule(one: Instruction, _: str, args: str) -> bool:
        name = opcode.replace("-", "_")
        is_wide = _is_of(one, (_S32, _U32, _S64, _U64))
        return one.opcode == opcode and is_wide and not _downcast(args, name)

    return rule


def _window(opcode: str, *, bad: Callable[[int, int, int], bool]) -> Callable[..., bool]:
    def rule(one: Instruction, *_: str) -> bool:
        return one.opcode == opcode and any(bad(*dim) for dim in one.windows)

    return rule


def _convolution(number: int) -> Callable[..., bool]:
    def rule(one: Instruction, *_: str) -> bool:
        is_other = any(dim[number] > 1 for dim in one.windows)
        return one.opcode == "convolution" and is_other and any(d[2] > 1 for d in one.windows)

    return rule


_RULES: tuple[tuple[str, Callable[[Instruction, str, str], bool], str], ...] = (
    ("EVRF001", lambda i, *_: i.opcode in _NO_LOWERING, "Unsupported operator"),
    ("EVRF001", lambda i, *_: i.opcode == "reduce" and len(i.operands) != 2, "Variadic reduce"),
    ("EVRF029", lambda i, t, _: i.opcode == "sort" and t in ("trn2", "trn3"), "Use TopK"),
    ("EVRF006", lambda i, *_: i.opcode == "rng-bit-generator" and i.rng != 0, "Only RNG_DEFAULT"),
    ("EVRF010", _convolution(1), "Base and window dilation together"),
    ("EVRF011", _convolution(0), "Stride and input dilation together"),
    (
        "EVRF013",
        lambda i, *_: i.target == "AwsNeuronTopK" and _is_of(i, (_S32, _S64)),
        "TopK does not support integers",
    ),
    (
        "EVRF015",
        lambda i, *_: i.opcode == "custom-call" and not i.target.startswith(_CALLS),
        "Unrecognized custom call",
    ),
    ("EVRF017", _window("reduce-window", bad=lambda _, __, base: base > 1), "Base dilation"),
    ("EVRF018", _window("reduce-window", bad=lambda _, win, __: win > 1), "Window dilation"),
    (
        "EVRF019",
        lambda i, *_: i.opcode == "reduce-window" and len(i.operands) != 2,
        "Number of operands",
    ),
    (
        "EVRF022",
        lambda i, *_: i.opcode == "shift-right-arithmetic" and not _is_of(i, (_S32, _U32, _F32)),
        "Shift of other than 32 bits",
    ),
    ("EVRF035", _wide_dot, "Integer dot"),
    ("EVRF061", _wide_sum("all-reduce"), "Integer all-reduce"),
    ("EVRF063", _wide_sum("reduce-scatter"), "Integer reduce-scatter"),
    (
        "EVRF062",
        lambda i, _, a: i.opcode == "power" and _is_of(i, (_S64, _U64)) and not _downcast(a, "pow"),
        "Integer power",
    ),
)


def _refuse_size(entry: list[Instruction], target: str, lnc: int) -> None:
    limit = _HBM.get(target, 24 * _GIB)
    if target == "trn2" and lnc == 1:
        limit = limit // 2
    needed = sum(
        prod(i.shape.dims) * _BYTES.get(i.shape.kind, 8) for i in entry if i.opcode == "parameter"
    )
    if needed > limit:
        message = (
            "NCC_EVRF009 Size of total input and output tensors exceeds HBM limit. Needed"
            f" {needed:,} bytes vs. available {limit:,} bytes ({limit / _GIB:.0f} GB)"
        )
        raise ValueError(message)
