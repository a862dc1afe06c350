"""Bytes and FLOPs of a compiled program, counted in its HLO.

What is counted, on one rank:

- FLOPs: ``2 M N K`` of every matrix product; nothing else, as everywhere (harness.md, 5).
- Bytes: what no implementation can do without. Every weight that is read, once; of a weight that
  is only looked up (embedding, picked experts) the rows; the part of each cache that attention
  sees, once; the cache positions and outputs that are written; the data that comes in. Activations
  between operators are not counted: kept on chip, they cost nothing.

So time from these figures is a floor, and what XLA reads twice lowers the utilisation.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from neuronc.artifact.manifest import PROGRAMS_DIR, ProgramEntry
from neuronc.bench.roofline.hlo_loops import trip_count
from neuronc.bench.roofline.hlo_reads import Origin, Reading, elements
from neuronc.checkpoint.paths import reading
from neuronc.dtypes import DTYPES
from neuronc.errors import InputError
from neuronc.lower.program_files import HLO
from neuronc.targets.neuron.hlo.inline import entry_of, inline_calls
from neuronc.targets.neuron.hlo.schema import MODERN
from neuronc.trace.program_spec import Phase, ProgramSignature, TensorSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgramCost:
    """One program on one rank, padding and all.

    Attributes:
        phase: Of the program.
        rows: Sequences it computes: slots for decode, 1 for prefill, texts for embed.
        tokens_per_row: Token positions of each: 1 for decode, else the bucket.
        keys_per_token: Cache positions or tokens that attention sees for each token.
        token_flops: Of products with weights that every token position goes through.
        last_flops: Of products with weights that only the last token goes through.
        attention_flops: Of products without weights: scores and weighted values.
        weight_bytes: Read whatever the tokens are.
        picked_bytes: Rows of weights that the tokens choose.
        cache_read_bytes: The slots' keys and values that attention sees.
        cache_written_bytes: Their new positions.
        token_io_bytes: Data that comes in and results that go out.
        unknown_loops: Loops whose number of runs the program does not tell; counted as one run.
    """

    phase: Phase
    rows: int
    tokens_per_row: int
    keys_per_token: int
    token_flops: int
    last_flops: int
    attention_flops: int
    weight_bytes: int
    picked_bytes: int
    cache_read_bytes: int
    cache_written_bytes: int
    token_io_bytes: int
    unknown_loops: int

    @property
    def flops(self) -> int:
        """Of all matrix products."""
        return self.token_flops + self.last_flops + self.attention_flops

    @property
    def bytes(self) -> int:
        """Read and written."""
        caches = self.cache_read_bytes + self.cache_written_bytes
        return self.weight_bytes + self.picked_bytes + caches + self.token_io_bytes


def read_program_cost(folder: Path, entry: ProgramEntry, *, max_length: int) -> ProgramCost:
    """Cost of the program ``entry`` of the artifact in ``folder``.

    Raises:
        InputError: its HLO is missing or is none.
    """
    path = folder / PROGRAMS_DIR / entry.name / HLO
    with reading(path):
        raw = path.read_bytes()
    try:
        return count_cost(raw, entry, max_length=max_length)
    except (DecodeError, StopIteration) as error:
        message = f"{path} is not a serialized HLO module"
        raise InputError(message, hint="copy the artifact again, or compile it again") from error


def count_cost(raw: bytes, entry: ProgramEntry, *, max_length: int) -> ProgramCost:
    """The same of a serialized ``xla.HloModuleProto`` with the inputs of ``entry``."""
    module = MODERN.FromString(raw)
    inline_calls(module)
    flow = Reading(entry_of(module))
    rows, tokens_per_row, keys = _extent(entry, max_length)
    products = _Products(module, flow, entry.signature, rows * tokens_per_row)
    return ProgramCost(
        phase=entry.phase,
        rows=rows,
        tokens_per_row=tokens_per_row,
        keys_per_token=keys,
        **products.flops,
        **_bytes(flow, entry.signature),
        unknown_loops=products.unknown_loops,
    )


def _extent(entry: ProgramEntry, max_length: int) -> tuple[int, int, int]:
    """Rows, token positions of each row, and keys that each position attends to."""
    shape = next(t.shape for t in entry.signature.inputs if t.name == "token_ids")
    if entry.phase == "decode":
        return shape[0], 1, entry.bucket
    return shape[0], entry.bucket, max_length if entry.phase == "prefill" else entry.bucket


def _bytes(flow: Reading, signature: ProgramSignature) -> dict[str, int]:
    counted = dict.fromkeys(
        ["weight_bytes", "picked_bytes", "cache_read_bytes", "cache_written_bytes"], 0
    )
    for parameter in flow.parameters():
        tensor = signature.inputs[parameter.parameter_number]
        read, size = flow.reads(parameter.id), DTYPES[tensor.dtype].size_bytes
        if tensor.kind == "weight":
            counted["weight_bytes"] += size * read.whole
            counted["picked_bytes"] += size * read.picked
        elif tensor.kind == "cache":
            counted["cache_read_bytes"] += size * (read.whole + read.picked)
            counted["cache_written_bytes"] += size * read.written
    outputs = [t for number, t in enumerate(signature.outputs) if number not in signature.aliases]
    data = [t for t in signature.inputs if t.kind == "data"]
    return counted | {"token_io_bytes": sum(map(_size_bytes, (*data, *outputs)))}


def _size_bytes(tensor: TensorSpec) -> int:
    return math.prod(tensor.shape) * DTYPES[tensor.dtype].size_bytes


class _Products:
    """FLOPs of a module's matrix products, sorted by what they grow with."""

    def __init__(
        self, module: Any, flow: Reading, signature: ProgramSignature, tokens: int
    ) -> None:
        self.computations = {c.id: c for c in module.computations}
        self.flow, self.signature, self.tokens = flow, signature, tokens
        self.unknown_loops = 0
        self.flops = {"token_flops": 0, "last_flops": 0, "attention_flops": 0}
        entry = entry_of(module)
        for instruction in entry.instructions:
            if instruction.opcode == "dot":
                kind = self._kind(instruction)
                self.flops[kind] += dot_flops(instruction, flow.by_id)
            else:  # inside a loop or a branch it is not known what tokens are
                self.flops["token_flops"] += self._inside(instruction, entry)

    def _kind(self, dot: Any) -> str:
        origins = [self.flow.origin(number) for number in dot.operand_ids]
        weights = [(n, o) for n, o in enumerate(origins) if o is not None and self._is_weight(o)]
        if not weights:
            return "attention_flops"
        # looked-up rows of the embedding may be the other side of a product in the first layer
        weights.sort(key=lambda weight: weight[1].picked)
        place, origin = weights[0]
        batch, rows = _batch_and_rows(dot, self.flow.by_id[dot.operand_ids[1 - place]], 1 - place)
        if origin.picked:
            rows *= batch  # each picked expert has its own row
        return "token_flops" if rows % self.tokens == 0 else "last_flops"

    def _is_weight(self, origin: Origin) -> bool:
        return self.signature.inputs[origin.parameter].kind == "weight"

    def _inside(self, instruction: Any, caller: Any) -> int:
        """FLOPs of the computations that ``instruction`` calls; of branches, the largest."""
        if instruction.opcode not in ("while", "fusion", "call", "conditional"):
            return 0
        called = [self.computations[number] for number in instruction.called_computation_ids]
        costs = [self._of(computation) for computation in called]
        if instruction.opcode != "while":
            return max(costs, default=0)
        runs = trip_count(instruction, caller, self.computations)
        self.unknown_loops += runs is None
        return sum(costs) * (1 if runs is None else runs)

    def _of(self, computation: Any) -> int:
        by_id = {i.id: i for i in computation.instructions}
        return sum(
            dot_flops(i, by_id) if i.opcode == "dot" else self._inside(i, computation)
            for i in computation.instructions
        )


def dot_flops(dot: Any, by_id: dict[int, Any]) -> int:
    """``2 M N K`` times the batch: twice the result's elements times the contracted ones."""
    shape = by_id[dot.operand_ids[0]].shape.dimensions
    contracted = (shape[d] for d in dot.dot_dimension_numbers.lhs_contracting_dimensions)
    return int(2 * elements(dot) * math.prod(contracted))


def _batch_and_rows(dot: Any, operand: Any, place: int) -> tuple[int, int]:
    """Sizes of the batch and of the free dimensions of operand number ``place``."""
    numbers, side = dot.dot_dimension_numbers, "rhs" if place else "lhs"
    batch = set(getattr(numbers, f"{side}_batch_dimensions"))
    contracted = set(getattr(numbers, f"{side}_contracting_dimensions"))
    sizes = list(enumerate(operand.shape.dimensions))
    return (
        math.prod(size for d, size in sizes if d in batch),
        math.prod(size for d, size in sizes if d not in batch | contracted),
    )


def costs_by_class(
    folder: Path, programs: tuple[ProgramEntry, ...], *, max_length: int
) -> dict[str, ProgramCost]:
    """The cost of each program by its step class, ``decode/256``."""
    return dict(_costs(folder, programs, max_length))


def _costs(
    folder: Path, programs: tuple[ProgramEntry, ...], max_length: int
) -> Iterator[tuple[str, ProgramCost]]:
    for entry in programs:
        cost = read_program_cost(folder, entry, max_length=max_length)
        yield f"{entry.phase}/{entry.bucket}", cost
