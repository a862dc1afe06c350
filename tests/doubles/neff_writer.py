"""A NEFF container as the documented header lays it out; its payload is the HLO itself."""

import hashlib
import io
import json
import struct
import tarfile
from math import prod
from pathlib import Path
from typing import Any

HEADER_BYTES = 1024
PAYLOAD = "hlo.pb"
_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    6: 1,
    7: 2,
    8: 4,
    10: 2,
    11: 4,
    16: 2,
    20: 1,
    28: 1,
}  # by xla.PrimitiveType


def write_neff(path: Path, module: Any, *, lnc: int, version: str) -> None:
    """Pack ``module`` for one rank."""
    files = {
        "neff.json": b"{}",
        "info.json": json.dumps({"compiler": version}).encode(),
        **{f"sg{n:02}/def.json": _definition(module) for n in range(lnc)},
        PAYLOAD: module.SerializeToString(deterministic=True),
    }
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    archive_bytes = data.getvalue()
    header = bytearray(HEADER_BYTES)
    for offset, number in ((0, 2), (8, HEADER_BYTES), (16, len(archive_bytes)), (24, 2), (32, 0)):
        struct.pack_into("<Q", header, offset, number)
    header[40 : 40 + len(version)] = version.encode()
    struct.pack_into("<I", header, 168, 1)
    header[172:204] = hashlib.sha256(archive_bytes).digest()
    struct.pack_into("<I", header, 552, lnc)
    path.write_bytes(bytes(header) + archive_bytes)


def entry_tensors(module: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Shapes of the inputs and outputs by their names in the NEFF, in order."""
    entry = module.computations[-1]
    parameters = sorted(
        (i for i in entry.instructions if i.opcode == "parameter"),
        key=lambda parameter: int(parameter.parameter_number),
    )
    inputs = {
        p.frontend_attributes.map.get("neff_input_names", "")
        or f"input{p.parameter_number}": p.shape
        for p in parameters
    }
    root = entry.instructions[-1]
    shapes = list(root.shape.tuple_shapes) or [root.shape]
    told = root.frontend_attributes.map.get("neff_output_names", "")
    names = told.split(",") if told else [f"output{n}" for n in range(len(shapes))]
    return inputs, dict(zip(names, shapes, strict=True))


def shape_bytes(shape: Any) -> int:
    """Size of a tensor of ``shape``."""
    return int(prod(shape.dimensions)) * _BYTES[shape.element_type]


def _definition(module: Any) -> bytes:
    inputs, outputs = entry_tensors(module)
    variables: dict[str, dict[str, object]] = {}
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for name, shape in tensors.items():
            number = len(variables)
            variables[name] = {"type": kind, "size": shape_bytes(shape), "var_id": number}
    return json.dumps({"name": "sg00", "var": variables}).encode()
