"""Is this NEFF the program it should be? Asked of every NEFF before an artifact is called done.

The archive's ``sgNN/def.json`` lists variables with type and size (Neuron SDK, "Device memory",
appendix); the target is nowhere documented to stand in a NEFF, so only the logical core size is
compared. Element types and shapes are not in it either: shapes are compared when nrtpy has loaded it.
"""

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from neuronc.dtypes import DTYPES
from neuronc.errors import InputError
from neuronc.targets.neuron.hlo.interface import input_names
from neuronc.targets.neuron.neff.reader import hash_kind, read_neff_files, read_neff_header
from neuronc.trace.program_spec import ProgramSignature, TensorSpec

_MAX_DEFINITIONS_BYTES = 256 * 2**20


def check_neff(path: Path, signature: ProgramSignature, *, lnc: int) -> tuple[str, ...]:
    """Compare the NEFF ``path`` with ``signature``.

    Returns:
        What could be compared: ``header``, ``archive``; ``hash`` where it is one of the archive;
        ``names``, or ``names and sizes``, where the archive lists them for every tensor.

    Raises:
        InputError: not a NEFF, compiled for another logical core size, or a tensor is missing, of
            another size, or one too many.
    """
    header = read_neff_header(path)
    if header.logical_core_size not in (0, lnc):
        size = header.logical_core_size
        message = f"{path.name} is for logical cores of size {size}; expected {lnc}"
        raise InputError(message, hint="compile it again")
    kind = hash_kind(path)
    compared = ("header", "archive", *(["hash"] if kind else []))
    variables = neff_variables(path)
    if not any(v.get("type") == "output" for v in variables.values()):
        return compared
    names = zip(input_names(signature), signature.inputs, strict=True)
    sized = _compare(path, variables, "input", dict(names))
    sized &= _compare(path, variables, "output", {t.name: t for t in signature.outputs})
    return *compared, "names and sizes" if sized else "names"


def neff_variables(path: Path) -> dict[str, Mapping[str, Any]]:
    """Every variable that the archive of ``path`` lists, by name; none where the list is too large.

    Raises:
        InputError: not a NEFF, or a list that cannot be read.
    """
    definitions = read_neff_files(path, "def.json", most_bytes=_MAX_DEFINITIONS_BYTES)
    variables: dict[str, Mapping[str, Any]] = {}
    for name, text in definitions.items():
        variables.update(_variables(path, name, text))
    return variables


def tensor_bytes(tensor: TensorSpec) -> int:
    """Size of a tensor on one rank."""
    return prod(tensor.shape) * DTYPES[tensor.dtype].size_bytes


def _variables(path: Path, name: str, text: bytes) -> dict[str, Mapping[str, Any]]:
    try:
        found = json.loads(text)["var"]
        if all(isinstance(variable, dict) for variable in found.values()):
            return dict(found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    message = f"{path.name} holds a {name} without a table of variables"
    raise InputError(message, hint="compile it again")


def _compare(
    path: Path,
    variables: Mapping[str, Mapping[str, Any]],
    kind: str,
    tensors: Mapping[str, TensorSpec],
) -> bool:
    """Whether every size was there to be compared."""
    found = {name: v.get("size") for name, v in variables.items() if v.get("type") == kind}
    for name, tensor in tensors.items():
        if name not in found:
            others = ", ".join(sorted(found)[:3])
            message = f"{path.name} has no {kind} {name!r}; it has {others}"
            raise InputError(message, hint="the compiler lost the names: report its version")
        expected = tensor_bytes(tensor)
        if found[name] is not None and found[name] != expected:
            size = found[name]
            message = f"{path.name} has {kind} {name!r} of {size} bytes; expected {expected}"
            raise InputError(message, hint="compile it again")
    if more := sorted(found.keys() - tensors.keys()):
        message = f"{path.name} has {kind} {more[0]!r}, which the program has not"
        raise InputError(message, hint="compile it again")
    return None not in found.values()
