"""The parallel plan: exactly one rule for every parameter, or a refusal that names it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from neuronc.errors import InputError, PlanError, UsageError
from neuronc.families.model_config import ModelConfig
from neuronc.parallel.arrangement import arrange
from neuronc.parallel.generic import generic_rules
from neuronc.parallel.heads import HeadLayout, lay_out_heads
from neuronc.parallel.modules import (
    Match,
    expected_shape,
    is_linear_weight,
    matches,
    matches_module,
    split_dim,
)
from neuronc.parallel.rules import ParamRule, Role, even_pieces

_PADDED_TP = 8
"""A tp degree that may leave ranks with nothing but padding; beyond it that is a mistake."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParallelPlan:
    """Where every parameter goes.

    Attributes:
        tp: Number of ranks.
        rules: One per parameter, by name, in checkpoint order.
        heads: The attention heads of every rank.
        vocab_per_rank: Rows of the embedding table and of the LM head on each rank.
        quantize: How the weights whose rules have a ``channel_dim`` are stored, a key of
            `neuronc.parallel.quantize.SCHEMES`; None where none is quantised.
    """

    tp: int
    rules: Mapping[str, ParamRule]
    heads: HeadLayout
    vocab_per_rank: int
    quantize: str | None = None


def plan_parallelism(
    config: ModelConfig,
    shapes: Mapping[str, tuple[int, ...]],
    tp: int,
    *,
    quantize: str | None = None,
) -> ParallelPlan:
    """Plan ``shapes`` (parameter name to shape) over ``tp`` ranks.

    Sizes that ``tp`` does not divide are padded with zeros (see `neuronc.parallel.cost`). A family
    that nobody has described is planned by `neuronc.parallel.generic`; on one rank without any
    check of names.

    With ``quantize`` the weight matrices of row- and column-parallel linear layers are quantised,
    at tp 1 as well; embeddings, LM head, norms, routers and experts (in tensors of three dims) are not.

    Raises:
        InputError: a parameter has no rule, or its shape is not what the config's sizes say.
        PlanError: a parameter has two rules, there are more ranks than heads, or nobody has
            described which layers of the family can be quantised.
        UsageError: ``tp`` is less than 1.
    """
    if tp < 1:
        message = f"expected at least 1 rank, found tp={tp}"
        raise UsageError(message, hint="pass --tp 1 or more")
    if tp > max(config.num_heads, _PADDED_TP):
        message = f"num_attention_heads={config.num_heads} cannot be split over tp={tp} ranks"
        raise PlanError(message, hint=f"pass --tp {config.num_heads} or less")
    is_generic = bool(config.family.why_not)
    if is_generic and quantize is not None:
        message = f"quantize {quantize}: nobody has described family {config.model_type!r}'s layers"
        raise PlanError(message, hint="leave out --quantize")
    # What generic ranks compute between their layers is the whole model's.
    heads = _lay_out(config, 1 if is_generic else tp)
    if is_generic and tp == 1:
        rules = {n: ParamRule(name=n, role="replicate", shape=s) for n, s in shapes.items()}
    elif is_generic:
        rules = generic_rules(config.raw, shapes, tp)
    else:
        planner = _Planner(config, heads, tp, quantize)
        rules = {name: planner.rule(name, shape) for name, shape in shapes.items()}
    return ParallelPlan(
        tp=tp,
        rules=rules,
        heads=heads,
        vocab_per_rank=-(-config.vocab_size // tp),
        quantize=quantize,
    )


def joined_shapes(
    config: ModelConfig, rank_shapes: Mapping[str, tuple[int, ...]], tp: int
) -> dict[str, tuple[int, ...]]:
    """Shapes that the parameters with shards of ``rank_shapes`` have as a whole.

    What ``config`` does not tell stays as it is, which is right for what every rank holds; so
    plan the result, and compare.

    Raises:
        InputError: a parameter has no rule.
        PlanError: a parameter has two rules, or the family cannot be split over ``tp`` ranks.
    """
    if tp == 1:
        return dict(rank_shapes)
    if config.family.why_not:
        raise PlanError(config.family.why_not, hint="use --tp 1 for this family")
    planner = _Planner(config, _lay_out(config, tp), tp)
    return {name: planner.whole_shape(name, shape) for name, shape in rank_shapes.items()}


def _lay_out(config: ModelConfig, tp: int) -> HeadLayout:
    multiple = config.family.heads_multiple
    return lay_out_heads(config.num_heads, config.num_kv_heads, tp, multiple=multiple)


class _Planner:
    """Rules for a splittable family."""

    def __init__(
        self, config: ModelConfig, heads: HeadLayout, tp: int, quantize: str | None = None
    ) -> None:
        self.config, self.heads, self.tp, self.quantize = config, heads, tp, quantize

    def rule(self, name: str, shape: tuple[int, ...]) -> ParamRule:
        match = self._match(name, shape)
        rule = self._layout(name, shape, match)
        if self.quantize is None or not is_linear_weight(name, shape, match):
            return rule
        return replace(rule, channel_dim=int(self.config.family.in_out))

    def _layout(self, name: str, shape: tuple[int, ...], match: Match) -> ParamRule:
        expected = expected_shape(self.config, self.heads, name, match)
        if expected is not None and shape != expected:
            message = f"{name!r} has shape {list(shape)}; the config's sizes give {list(expected)}"
            raise InputError(message, hint="the weights do not belong to this config.json")
        # The bias of a row-parallel linear is added once, after the all-reduce.
        is_row_bias = match.split.style == "row" and match.is_bias
        if self.tp == 1 or is_row_bias or match.kind == "whole":
            return ParamRule(name=name, role="replicate", shape=shape)
        if match.split.style == "whole":
            self._check_norm(name, shape, match)
            return ParamRule(name=name, role="replicate", shape=shape)
        if match.kind == "module":
            return self._split(name, shape, match)
        pieces = even_pieces(self.config.vocab_size, self.tp)
        role: Role = "vocab_embedding" if match.kind == "embedding" else "vocab_head"
        return ParamRule(name=name, role=role, shape=shape, dim=0, ranks=pieces)

    def whole_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        match = self._match(name, shape)
        return expected_shape(self.config, self.heads, name, match) or shape

    def _match(self, name: str, shape: tuple[int, ...]) -> Match:
        found = matches(self.config, name)
        if len(found) > 1:
            which = ", ".join(match.pattern for match in found)
            message = f"{len(found)} sharding rules match {name!r}: {which}"
            raise PlanError(message, hint="make the patterns of the family's tp plan exclusive")
        if not found:
            family = self.config.model_type
            message = f"no sharding rule of family {family!r} matches {name!r} {list(shape)}"
            raise InputError(message, hint="the checkpoint has a tensor too many, or is another's")
        return found[0]

    def _check_norm(self, name: str, shape: tuple[int, ...], match: Match) -> None:
        """A norm over one head, or over the hidden state, is the same on every rank."""
        wide_norms = self.config.family.wide_norms
        if not match.split.is_norm or any(matches_module(name, norm) for norm in wide_norms):
            return
        in_attention = ".self_attn." in name or ".attention." in name or ".attn." in name
        width = self.config.head_dim if in_attention else self.config.hidden_size
        if shape != (width,):
            message = (
                f"norm {name!r} {list(shape)} spans heads of several ranks; expected [{width}]"
            )
            raise PlanError(message, hint="use --tp 1 for this family")

    def _split(self, name: str, shape: tuple[int, ...], match: Match) -> ParamRule:
        dim = split_dim(self.config, match, len(shape))
        if match.split.experts and shape[0] % self.tp == 0:
            dim, pieces = 0, even_pieces(shape[0], self.tp)
        elif not match.split.parts:
            return ParamRule(name=name, role="replicate", shape=shape)
        else:
            pieces = arrange(match.split, shape[dim], self.heads, self.config.head_dim)
        role: Role = "column" if match.split.style == "column" else "row"
        return ParamRule(name=name, role=role, shape=shape, dim=dim, ranks=pieces)
