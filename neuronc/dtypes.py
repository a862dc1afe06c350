"""One table of element types: our name, and what safetensors, numpy, torch and MLIR call it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neuronc.errors import InputError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class Dtype:
    """An element type.

    Attributes:
        name: Our name, used in flags, manifests and messages.
        safetensors: Tag in a safetensors header.
        numpy: Attribute of numpy, or of ml_dtypes where numpy has none.
        torch: Attribute of torch.
        mlir: Element type in StableHLO text.
        size_bytes: Bytes per element.
        eps: Distance from 1.0 to the next value (one ulp at 1.0); 0.0 for integers.
    """

    name: str
    safetensors: str
    numpy: str
    torch: str
    mlir: str
    size_bytes: int
    eps: float = 0.0

    @property
    def is_float(self) -> bool:
        """Whether values are floating point."""
        return self.eps > 0.0


DTYPES: dict[str, Dtype] = {
    d.name: d
    for d in (
        Dtype(
            name="f64",
            safetensors="F64",
            numpy="float64",
            torch="float64",
            mlir="f64",
            size_bytes=8,
            eps=2.0**-52,
        ),
        Dtype(
            name="f32",
            safetensors="F32",
            numpy="float32",
            torch="float32",
            mlir="f32",
            size_bytes=4,
            eps=2.0**-23,
        ),
        Dtype(
            name="bf16",
            safetensors="BF16",
            numpy="bfloat16",
            torch="bfloat16",
            mlir="bf16",
            size_bytes=2,
            eps=2.0**-7,
        ),
        Dtype(
            name="f16",
            safetensors="F16",
            numpy="float16",
            torch="float16",
            mlir="f16",
            size_bytes=2,
            eps=2.0**-10,
        ),
        Dtype(
            name="f8e4m3fn",
            safetensors="F8_E4M3",
            numpy="float8_e4m3fn",
            torch="float8_e4m3fn",
            mlir="f8E4M3FN",
            size_bytes=1,
            eps=2.0**-3,
        ),
        Dtype(
            name="i64", safetensors="I64", numpy="int64", torch="int64", mlir="i64", size_bytes=8
        ),
        Dtype(
            name="i32", safetensors="I32", numpy="int32", torch="int32", mlir="i32", size_bytes=4
        ),
        Dtype(
            name="i16", safetensors="I16", numpy="int16", torch="int16", mlir="i16", size_bytes=2
        ),
        Dtype(name="i8", safetensors="I8", numpy="int8", torch="int8", mlir="i8", size_bytes=1),
        Dtype(name="u8", safetensors="U8", numpy="uint8", torch="uint8", mlir="ui8", size_bytes=1),
        Dtype(
            name="bool", safetensors="BOOL", numpy="bool_", torch="bool", mlir="i1", size_bytes=1
        ),
    )
}
"""Of the 8-bit floats only what quantised weights are stored in; see `neuronc.parallel.quantize`."""

COMPUTE_DTYPES = ("f32", "bf16", "f16")
"""What ``--dtype`` accepts besides ``auto``."""

_BY_SAFETENSORS = {d.safetensors: d for d in DTYPES.values()}
_BY_TORCH = {d.torch: d for d in DTYPES.values()}


def from_safetensors(tag: str, *, subject: str) -> Dtype:
    """The dtype of a safetensors tag; `InputError` naming ``subject`` when it is unknown."""
    if tag not in _BY_SAFETENSORS:
        message = f"{subject} has dtype {tag!r}; neuronc reads {', '.join(sorted(_BY_SAFETENSORS))}"
        raise InputError(message, hint="convert the checkpoint to one of these dtypes first")
    return _BY_SAFETENSORS[tag]


def from_torch(name: str, *, subject: str) -> Dtype:
    """The dtype for torch's name (``bfloat16`` or ``torch.bfloat16``)."""
    plain = name.removeprefix("torch.")
    if plain not in _BY_TORCH:
        message = f"{subject} has dtype {plain!r}; neuronc knows {', '.join(sorted(_BY_TORCH))}"
        raise InputError(message, hint="pass --dtype f32, bf16 or f16")
    return _BY_TORCH[plain]


def holds(dtype: Dtype, other: Dtype) -> bool:
    """Whether floats of type ``other`` stay what they are when they become ``dtype``."""
    return dtype == other or dtype.size_bytes > other.size_bytes


def numpy_dtype(dtype: Dtype) -> "np.dtype[Any]":
    """The numpy dtype; bf16 and f8e4m3fn come from ml_dtypes, which is imported only for them."""
    import numpy as np

    if dtype.name in ("bf16", "f8e4m3fn"):
        import ml_dtypes

        extension: np.dtype[Any] = np.dtype(getattr(ml_dtypes, dtype.numpy))
        return extension
    plain: np.dtype[Any] = np.dtype(getattr(np, dtype.numpy))
    return plain
