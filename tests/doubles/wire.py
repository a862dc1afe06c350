"""Protobuf's wire format, read without any schema of the package's: what both get wrong would pass."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Fields = Mapping[int, list[Any]]


def decode(raw: bytes) -> dict[int, list[Any]]:
    """Values by field number: int of a varint, bytes of everything else."""
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        number, kind = key >> 3, key & 7
        value: Any
        if kind == 0:
            value, at = _varint(raw, at)
        elif kind == 2:
            size, at = _varint(raw, at)
            value, at = raw[at : at + size], at + size
        else:
            size = 8 if kind == 1 else 4
            value, at = raw[at : at + size], at + size
        found.setdefault(number, []).append(value)
    return found


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return (value - 2**64 if value >= 2**63 else value), at


def numbers(fields: Fields, number: int) -> list[int]:
    """A repeated integer, packed or not."""
    found: list[int] = []
    for value in fields.get(number, []):
        if isinstance(value, int):
            found.append(value)
            continue
        at = 0
        while at < len(value):
            one, at = _varint(value, at)
            found.append(one)
    return found


def text(fields: Fields, number: int) -> str:
    """A string, empty if it is not there."""
    return bytes(fields.get(number, [b""])[-1]).decode()


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Element type by ``xla.PrimitiveType``; ``parts`` of a tuple."""

    kind: int = 0
    dims: tuple[int, ...] = ()
    parts: tuple["Shape", ...] = ()
    is_dynamic: bool = False


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """What documented codes look at; field numbers from XLA's hlo.proto."""

    name: str
    opcode: str
    shape: Shape
    target: str
    rng: int
    windows: tuple[tuple[int, int, int], ...]
    """Stride, window dilation and base dilation of each dimension."""
    called: tuple[int, ...]
    operands: list["Instruction"] = field(default_factory=list)


def read_module(raw: bytes) -> tuple[dict[int, list[Instruction]], list[Instruction]]:
    """Instructions by computation id, and those of the entry."""
    module = decode(raw)
    computations: dict[int, list[Instruction]] = {}
    for body in map(decode, module.get(3, [])):
        by_id: dict[int, Instruction] = {}
        for fields in map(decode, body.get(2, [])):
            made = _instruction(fields)
            made.operands.extend(by_id[n] for n in numbers(fields, 36))
            by_id[(numbers(fields, 35) or [0])[-1]] = made
        computations[(numbers(body, 5) or [0])[-1]] = list(by_id.values())
    return computations, computations[(numbers(module, 6) or [0])[-1]]


def _instruction(fields: Fields) -> Instruction:
    window = decode(fields.get(15, [b""])[-1])
    return Instruction(
        name=text(fields, 1),
        opcode=text(fields, 2),
        shape=_shape(fields.get(3, [b""])[-1]),
        target=text(fields, 28),
        rng=(numbers(fields, 70) or [0])[-1],
        windows=tuple(_window(decode(dim)) for dim in window.get(1, [])),
        called=tuple(numbers(fields, 38)),
    )


def _window(dim: Fields) -> tuple[int, int, int]:
    stride, window, base = ((numbers(dim, number) or [1])[-1] for number in (2, 5, 6))
    return stride, window, base


def _shape(raw: bytes) -> Shape:
    fields = decode(raw)
    dims = tuple(numbers(fields, 3))
    return Shape(
        kind=(numbers(fields, 2) or [0])[-1],
        dims=dims,
        parts=tuple(_shape(part) for part in fields.get(4, [])),
        is_dynamic=any(numbers(fields, 6)) or any(size < 0 for size in dims),
    )
