"""What a family declares here because its configuration class in transformers has no tp plan.

One family is one file that defines a `OwnPlan`, and one line in `neuronc.families.own_plans`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from neuronc.families.model_config import ModelConfig

Unit = Literal["query", "kv", "feature"]
"""What the split dim of a linear layer counts: query heads, KV heads, or MLP features."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnPlan:
    """A family's plan, and what else splitting it needs.

    Attributes:
        linears: Module pattern, without the base model's prefix, to split style (as transformers'
            plans spell it) and what the split dim counts. Weights are ``[out, in]``.
        replicated: The parameters outside the layers that every rank holds whole, for a config:
            name without the base model's prefix, and shape.
        query_head_counts: Patterns of module attributes that hold the number of query heads,
            which is smaller on a rank.
        size_fields: Our name of a size to its field in config.json, where it is another.
        base_prefix: What names of the base model begin with inside the causal LM; checkpoints of
            the base model alone lack it.
    """

    linears: Mapping[str, tuple[Literal["colwise", "rowwise"], Unit]]
    replicated: Callable[["ModelConfig"], Mapping[str, tuple[int, ...]]]
    query_head_counts: tuple[str, ...] = ()
    size_fields: Mapping[str, str] = field(default_factory=dict)
    base_prefix: str

    @property
    def tp_plan(self) -> dict[str, str]:
        """Module pattern to split style, as transformers has it for other families."""
        return {pattern: style for pattern, (style, _) in self.linears.items()}
