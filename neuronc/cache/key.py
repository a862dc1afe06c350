"""What an entry is found by: everything that decides its content, and nothing else."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Kind = Literal["lowered", "executable", "neff", "verification"]
"""In the order of a build: a lowered program, what XLA:CPU and neuronx-cc made of one, a report."""

KINDS: tuple[Kind, ...] = get_args(Kind)
FORMAT = 1
"""Of entries and keys; one more makes every key another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """An entry's kind and explicit inputs.

    Attributes:
        kind: Which of `KINDS`.
        inputs: JSON values by name, the most telling first: no paths, names of people or machines,
            times or ids. What is not among them does not change the content.
    """

    kind: Kind
    inputs: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """sha256, hex, of the inputs in canonical JSON; the name of the entry.

        Raises:
            ValueError: an input is NaN or infinite, which JSON has no word for.
        """
        told = [FORMAT, self.kind, self.inputs]
        text = json.dumps(told, sort_keys=True, allow_nan=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, other: "Key") -> list[tuple[str, Any, Any]]:
        """Dotted name, value here and value there of every input that differs, in order here."""
        here, there = dict(_flat(self.inputs)), dict(_flat(other.inputs))
        names = dict.fromkeys([*here, *there])
        return [(n, here.get(n), there.get(n)) for n in names if here.get(n) != there.get(n)]


def _flat(inputs: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in inputs.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", list(value) if isinstance(value, tuple) else value
