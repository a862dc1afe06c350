"""What nrtpy tells of a loaded NEFF is compared with the manifest."""

from types import SimpleNamespace
from typing import Any

import pytest

from neuronc.artifact.manifest import ProgramEntry
from neuronc.errors import InputError
from neuronc.runtime.device_rank import _check_names
from neuronc.trace.program_spec import ProgramSignature, TensorSpec

WEIGHT = TensorSpec(name="w", kind="weight", shape=(2, 3), dtype="f32")
ENTRY = ProgramEntry(
    name="decode_32",
    phase="decode",
    bucket=32,
    signature=ProgramSignature(inputs=(WEIGHT,), outputs=(), aliases={}),
    merged_weights=(),
)


def told(shape: Any, size: int) -> dict[str, Any]:
    return {"w": SimpleNamespace(shape=shape, size=size)}


def test_tensors_that_fit_are_taken() -> None:
    _check_names(ENTRY, told([2, 3], 24), {"w": WEIGHT})


@pytest.mark.parametrize(
    ("shape", "size", "message"),
    [
        ((2, 3), 12, "has 12 bytes; the manifest says 24"),
        ((3, 2), 24, r"has shape \[3, 2\]; the manifest says \[2, 3\]"),
        ((6,), 24, r"has shape \[6\]"),
    ],
)
def test_weight_of_another_size_or_transposed_is_refused(
    shape: Any, size: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        _check_names(ENTRY, told(shape, size), {"w": WEIGHT})
