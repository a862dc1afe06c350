"""Which programs an artifact has, and the tensors that go in and out of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

StepPhase = Literal["prefill", "decode"]
"""Of generating text, step by step."""

Phase = StepPhase | Literal["embed"]
PHASES: tuple[Phase, ...] = ("prefill", "decode", "embed")

TOKENS = "tokens"
"""Name of the output, after the caches, of a program that samples on the device."""

MergedWeights = tuple[tuple[str, ...], ...]
"""Groups of weights that an executable takes as one, each laid after the one before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgramSpec:
    """One compiled entry point.

    Prefill takes one sequence's chunk of ``bucket`` tokens into one slot; decode takes one token
    for each of ``batch_size`` slots and sees the first ``bucket`` cache positions; embed takes
    ``batch_size`` texts of up to ``bucket`` tokens.

    Attributes:
        on_device_sampling: Whether it gives the most likely tokens as well; never of embed.
    """

    phase: Phase
    bucket: int
    batch_size: int
    max_length: int
    on_device_sampling: bool = False

    @property
    def name(self) -> str:
        """``prefill_128``: unique within an artifact."""
        return f"{self.phase}_{self.bucket}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """One input or output of a program, as one rank sees it.

    Attributes:
        kind: ``weight``, ``cache`` (both differ by rank), ``rank`` (the rank's number) or ``data``
            (the same on every rank).
        dtype: Our dtype name.
    """

    name: str
    kind: Literal["weight", "cache", "rank", "data"]
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgramSignature:
    """Inputs and outputs of a program in order; ``aliases`` maps output to input index.

    An aliased output is written in place of its input: that is how KV caches stay where they are.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    aliases: Mapping[int, int]

    @property
    def tokens_at(self) -> int | None:
        """Which output is `TOKENS`; None if none is."""
        names = [tensor.name for tensor in self.outputs]
        return names.index(TOKENS) if TOKENS in names else None


def list_programs(
    *,
    batch_size: int,
    max_length: int,
    prefill_buckets: tuple[int, ...] = (),
    decode_buckets: tuple[int, ...] = (),
    embed_buckets: tuple[int, ...] = (),
    on_device_sampling: bool = False,
) -> tuple[ProgramSpec, ...]:
    """One program per (phase, bucket), prefill first, small buckets first."""
    phases: tuple[tuple[Phase, tuple[int, ...]], ...] = (
        ("prefill", prefill_buckets),
        ("decode", decode_buckets),
        ("embed", embed_buckets),
    )
    return tuple(
        ProgramSpec(
            phase=phase,
            bucket=bucket,
            batch_size=batch_size,
            max_length=max_length,
            on_device_sampling=on_device_sampling and phase != "embed",
        )
        for phase, buckets in phases
        for bucket in buckets
    )


def signature_to_dict(signature: ProgramSignature) -> dict[str, Any]:
    """JSON form of ``signature``; weights and caches are one line each."""
    return {
        "inputs": [[t.kind, t.name, list(t.shape), t.dtype] for t in signature.inputs],
        "outputs": [[t.kind, t.name, list(t.shape), t.dtype] for t in signature.outputs],
        "aliases": {str(out): inp for out, inp in signature.aliases.items()},
    }


def signature_from_dict(data: Mapping[str, Any]) -> ProgramSignature:
    """Inverse of `signature_to_dict`."""

    def specs(rows: list[list[Any]]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(kind=k, name=n, shape=tuple(s), dtype=d) for k, n, s, d in rows)

    return ProgramSignature(
        inputs=specs(data["inputs"]),
        outputs=specs(data["outputs"]),
        aliases={int(out): inp for out, inp in data["aliases"].items()},
    )
