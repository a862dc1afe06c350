"""XLA's element types by number (``xla.PrimitiveType``), and scalar literals of them."""

from typing import Any

from neuronc.errors import CompilerError

PRED, S8, S16, S32, S64 = 1, 2, 3, 4, 5
U8, U16, U32, U64 = 6, 7, 8, 9
F16, F32, F64, TUPLE, C64, BF16, C128 = 10, 11, 12, 13, 15, 16, 18

NAMES = {
    PRED: "pred",
    S8: "s8",
    S16: "s16",
    S32: "s32",
    S64: "s64",
    U8: "u8",
    U16: "u16",
    U32: "u32",
    U64: "u64",
    F16: "f16",
    F32: "f32",
    F64: "f64",
    C64: "c64",
    BF16: "bf16",
    C128: "c128",
}
FLOATS = frozenset({F16, F32, F64, BF16})
_BITS = {S8: 8, S16: 16, S32: 32, S64: 64, U8: 8, U16: 16, U32: 32, U64: 64}
_SIGNED = frozenset({S8, S16, S32, S64})

# the field of ``LiteralProto`` with the elements, and their numpy type; packed in "bytes" fields
_FIELDS = {
    PRED: ("preds", ""),
    S8: ("s8s", "int8"),
    S16: ("s16s", "int16"),
    S32: ("s32s", ""),
    S64: ("s64s", ""),
    U8: ("u8s", "uint8"),
    U16: ("u16s", "uint16"),
    U32: ("u32s", ""),
    U64: ("u64s", ""),
    F16: ("f16s", "float16"),
    F32: ("f32s", ""),
    F64: ("f64s", ""),
    BF16: ("bf16s", "bfloat16"),
}


def name_of(dtype: int) -> str:
    """``f32``, or the number of a type that has no name here."""
    return NAMES.get(dtype, f"element type {dtype}")


def is_integer(dtype: int) -> bool:
    """Whether ``dtype`` is a signed or unsigned integer; a truth value is not."""
    return dtype in _BITS


def is_signed(dtype: int) -> bool:
    """Whether ``dtype`` is a signed integer."""
    return dtype in _SIGNED


def lowest(dtype: int) -> float:
    """The value that every other value of ``dtype`` is at least, NaN aside."""
    if dtype in FLOATS:
        return float("-inf")
    return -(1 << (_BITS[dtype] - 1)) if dtype in _SIGNED else 0


def highest(dtype: int) -> float:
    """The value that every other value of ``dtype`` is at most, NaN aside."""
    if dtype in FLOATS:
        return float("inf")
    bits = _BITS[dtype] - 1 if dtype in _SIGNED else _BITS[dtype]
    return (1 << bits) - 1


def set_scalar(literal: Any, dtype: int, value: float) -> None:
    """Make the empty ``literal`` a scalar of ``dtype`` with ``value``."""
    field, packed = _FIELDS[_known(dtype)]
    literal.shape.element_type = dtype
    if packed:
        setattr(literal, field, _numpy(packed).type(value).tobytes())
    else:
        getattr(literal, field).append(value)


def scalar_of(literal: Any) -> float | None:
    """The value of a scalar literal; None if it has a shape or no plain type."""
    shape = literal.shape
    if shape.dimensions or shape.element_type not in _FIELDS:
        return None
    return elements_of(literal)[0]


def elements_of(literal: Any) -> list[float]:
    """All elements of an array literal."""
    import numpy as np

    field, packed = _FIELDS[_known(literal.shape.element_type)]
    if not packed:
        return list(getattr(literal, field))
    wide = float if literal.shape.element_type in FLOATS else int
    return [wide(e) for e in np.frombuffer(getattr(literal, field), dtype=_numpy(packed))]


def _known(dtype: int) -> int:
    if dtype not in _FIELDS:
        message = f"HLO has a constant of {name_of(dtype)}, which the Neuron target cannot rewrite"
        raise CompilerError(message, hint="report the model's family")
    return dtype


def _numpy(name: str) -> Any:
    import ml_dtypes
    import numpy as np

    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
