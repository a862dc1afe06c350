"""What neuronc knows of a model family: how its parameters are split over ranks, and what follows.

One family is one file in `neuronc.families.decoders` or `neuronc.families.encoders` that defines
``family``; families of decoders without a file follow the plan of their configuration class in transformers (`neuronc.families.derived`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Unit = Literal["query", "kv", "feature"]
"""What is dealt out to ranks: query heads, KV heads, or MLP features."""

Style = Literal["column", "row", "whole"]
"""``column``: the output dim is split; ``row``: the input dim, and an all-reduce follows."""

Count = Literal["query_heads", "kv_heads", "q_per_kv", "query_width", "kv_width"]
"""A number of one rank that a module keeps in an attribute; widths are heads times head dim."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Rows of a fused parameter that belong to one kind of unit.

    Attributes:
        unit: What they count.
        width: Indices of one unit; None is the head dim, or 1 for features.
    """

    unit: Unit
    width: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """How the parameters of one module are split.

    Attributes:
        style: See `Style`.
        parts: What the split dim is made of. A plain projection has one part, a fused one several.
        order: ``parts``: one part after another; ``heads``: all parts of the first KV head, then
            of the second; a query part has the KV head's query heads there.
        chunks: Into how many equal runs of heads the dim is cut before ``order`` applies to each.
        dim: Of a parameter that is no weight of a linear layer: the dim that is split.
        inner_size: Of a linear layer that does not read or write the hidden state: the other dim.
        features: Their number, where it is not the config's ``intermediate_size``.
        partial: Of a row split: the sum over the ranks is left to a module around it, see
            `Family.sums`.
        experts: Dim 0 counts experts, which are dealt out whole where tp divides their number;
            ``parts`` is about ``dim`` of the others.
        optional: Not every model has it.
        is_norm: Whole, if it works on one head or on the hidden state; cannot be split otherwise.
    """

    style: Style
    parts: tuple[Part, ...] = ()
    order: Literal["parts", "heads"] = "parts"
    chunks: int = 1
    dim: int | None = None
    inner_size: int | None = None
    features: int | None = None
    partial: bool = False
    experts: bool = False
    optional: bool = False
    is_norm: bool = False


def columns(*parts: Unit | Part, **options: Any) -> Split:
    """Output dim made of ``parts``; ``options`` are those of `Split`."""
    return Split(style="column", parts=_parts(parts), **options)


def rows(*parts: Unit | Part, **options: Any) -> Split:
    """Input dim made of ``parts``; ``options`` are those of `Split`."""
    return Split(style="row", parts=_parts(parts), **options)


WHOLE = Split(style="whole")
"""Every rank holds it all."""


def _parts(parts: tuple[Unit | Part, ...]) -> tuple[Part, ...]:
    return tuple(part if isinstance(part, Part) else Part(unit=part) for part in parts)


class Fields(Protocol):
    """A model's config.json over the defaults of its configuration class."""

    def get(self, name: str, *, default: Any = None) -> Any:
        """The field, under its own name or an alias; ``default`` if absent or null."""

    def size(self, name: str, *, default: int | None = None) -> int:
        """The same, refused where it is no positive int."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A family as one config describes it. Patterns have ``*`` for a layer's number.

    Attributes:
        splits: Module, or parameter of a module, without the base model's prefix, to its split.
        whole: Parameters outside the layers that every rank holds, with their shapes.
        counts: Attribute of a module to what it counts, where that is smaller on a rank.
        sizes: Our name of a size to its field in config.json, or to the size itself.
        base_prefix: What names of the base model begin with inside the causal LM, where
            checkpoints of the base model alone may lack it.
        wide_norms: Norms over all query or KV heads together: a rank's part is normalised with
            the others'.
        sums: Modules whose output is summed over the ranks; the row splits inside are partial.
        stacked: Model parameter to the checkpoint's tensors for one expert that it is made of,
            ``#`` for the expert's number: joined along their first dim, stacked along a new one.
        renamed: Part of a checkpoint's tensor name to the model's.
        heads_multiple: The query heads of a rank must be a multiple of this.
        in_out: Weights of linear layers are ``[in, out]`` (GPT-2's Conv1D).
        cache_width: Elements that a layer keeps of a token on every rank, where that is not keys and
            values of the rank's KV heads.
        adapt: Changes what the module surgery above cannot: called with the rank's model and
            a `neuronc.trace.rank_heads.RankHeads`.
        padding_mask: The model wants to be told that no token is padding.
        reference_attention: transformers' attention implementation to compare with, where its
            eager one is not right.
        unused: What names of tensors begin with that checkpoints may have and the model does not use.
        first_position: The number of a text's first position, for the model.
        why_not: What keeps the family from being split over ranks; empty for one that can be.
    """

    splits: Mapping[str, Split] = field(default_factory=dict)
    whole: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    counts: Mapping[str, Count] = field(default_factory=dict)
    sizes: Mapping[str, str | int] = field(default_factory=dict)
    base_prefix: str = ""
    wide_norms: Mapping[str, Unit] = field(default_factory=dict)
    sums: tuple[str, ...] = ()
    stacked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    heads_multiple: int = 1
    in_out: bool = False
    cache_width: int | None = None
    adapt: Callable[[Any, Any], None] | None = None
    padding_mask: bool = False
    reference_attention: Literal["eager", "sdpa"] = "eager"
    unused: tuple[str, ...] = ()
    first_position: int = 0
    why_not: str = ""
