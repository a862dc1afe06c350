"""The parallel plan: exactly one rule for every parameter, or a refusal that names it."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from neuronc.errors import InputError, PlanError, UsageError
from neuronc.families.model_config import ModelConfig
from neuronc.parallel.heads import HeadLayout, lay_out_heads
from neuronc.parallel.modules import (
    EMBEDDING,
    HEAD,
    NORM,
    expected_shape,
    module_of,
    replicated,
    units,
    why_not_splittable,
)
from neuronc.parallel.rules import ParamRule, Piece, Role, even_pieces, units_to_pieces

_LARGEST_TP_TRIED = 64
_OWN_STYLES = {"embedding": EMBEDDING, "head": HEAD, "norm": NORM}


@dataclass(frozen=True, kw_only=True, slots=True)
class ParallelPlan:
    """Where every parameter goes.

    Attributes:
        tp: Number of ranks.
        rules: One per parameter, by name, in checkpoint order.
        heads: The attention heads of every rank.
        vocab_per_rank: Rows of the embedding table and of the LM head on each rank.
    """

    tp: int
    rules: Mapping[str, ParamRule]
    heads: HeadLayout
    vocab_per_rank: int


def plan_parallelism(
    config: ModelConfig, shapes: Mapping[str, tuple[int, ...]], tp: int
) -> ParallelPlan:
    """Plan ``shapes`` (parameter name to shape) over ``tp`` ranks.

    A family that neuronc cannot split gets a plan for one rank only, without any check of names.

    Raises:
        InputError: a parameter has no rule, or its shape is not what the config's sizes say.
        PlanError: the family cannot be split, a parameter has two rules, or a dim does not
            divide; then the message names it and the hint the tp degrees that work.
        UsageError: ``tp`` is less than 1.
    """
    if tp < 1:
        message = f"expected at least 1 rank, found tp={tp}"
        raise UsageError(message, hint="pass --tp 1 or more")
    try:
        return _plan(config, shapes, tp)
    except _DoesNotDivideError as error:
        hint = f"tp degrees that work: {_working_tp(config, shapes)}"
        raise PlanError(str(error), hint=hint) from None


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
    if reason := why_not_splittable(config):
        raise PlanError(reason, hint="use --tp 1 for this family")
    planner = _Planner(config, lay_out_heads(config.num_heads, config.num_kv_heads, tp), tp)
    return {name: planner.whole_shape(name, shape) for name, shape in rank_shapes.items()}


class _DoesNotDivideError(Exception):
    pass


def _plan(config: ModelConfig, shapes: Mapping[str, tuple[int, ...]], tp: int) -> ParallelPlan:
    reason = why_not_splittable(config)
    if reason and tp > 1:
        raise PlanError(reason, hint="use --tp 1 for this family")
    if tp > config.num_heads:
        message = f"num_attention_heads={config.num_heads} cannot be split over tp={tp} ranks"
        raise _DoesNotDivideError(message)
    heads = lay_out_heads(config.num_heads, config.num_kv_heads, tp)
    if reason:
        rules = {n: ParamRule(name=n, role="replicate", shape=s) for n, s in shapes.items()}
    else:
        planner = _Planner(config, heads, tp)
        rules = {name: planner.rule(name, shape) for name, shape in shapes.items()}
    return ParallelPlan(tp=tp, rules=rules, heads=heads, vocab_per_rank=-(-config.vocab_size // tp))


class _Planner:
    """Rules for a splittable family."""

    def __init__(self, config: ModelConfig, heads: HeadLayout, tp: int) -> None:
        self.config, self.heads, self.tp = config, heads, tp
        self.patterns = [
            (re.compile(r"(?:.*\.)?" + re.escape(p).replace(r"\*", r"\d+") + r"\.(weight|bias)"), s)
            for p, s in config.tp_plan.items()
        ]
        self.patterns += [
            (re.compile(r"(?:.*\.)?" + re.escape(known)), "replicated")
            for known in replicated(config)
        ]

    def rule(self, name: str, shape: tuple[int, ...]) -> ParamRule:
        style = self._style(name, shape)
        expected = expected_shape(self.config, name, style)
        if expected is not None and shape != expected:
            message = f"{name!r} has shape {list(shape)}; the config's sizes give {list(expected)}"
            raise InputError(message, hint="the weights do not belong to this config.json")
        # The bias of a row-parallel linear is added once, after the all-reduce.
        is_row_bias = style == "rowwise" and name.endswith(".bias")
        if self.tp == 1 or is_row_bias or style == "replicated":
            return ParamRule(name=name, role="replicate", shape=shape)
        if style in ("norm", "replicated_with_grad_allreduce"):
            return self._norm(name, shape)
        return self._split(style, name, shape)

    def whole_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return expected_shape(self.config, name, self._style(name, shape)) or shape

    def _style(self, name: str, shape: tuple[int, ...]) -> str:
        styles = [style for pattern, style in self.patterns if pattern.fullmatch(name)]
        styles = styles or [s for s, pattern in _OWN_STYLES.items() if pattern.fullmatch(name)]
        if len(styles) > 1:
            message = f"{len(styles)} sharding rules match {name!r}: {', '.join(styles)}"
            raise PlanError(message, hint="make the patterns of the family's tp plan exclusive")
        if not styles:
            family = self.config.model_type
            message = f"no sharding rule of family {family!r} matches {name!r} {list(shape)}"
            raise InputError(message, hint="the checkpoint has a tensor too many, or is another's")
        return styles[0]

    def _norm(self, name: str, shape: tuple[int, ...]) -> ParamRule:
        """A norm over one head, or over the hidden state, is the same on every rank."""
        width = self.config.head_dim if ".self_attn." in name else self.config.hidden_size
        if shape != (width,):
            message = (
                f"norm {name!r} {list(shape)} spans heads of several ranks; expected [{width}]"
            )
            raise PlanError(message, hint="use --tp 1 for this family")
        return ParamRule(name=name, role="replicate", shape=shape)

    def _split(self, style: str, name: str, shape: tuple[int, ...]) -> ParamRule:
        if style in ("embedding", "head"):
            pieces = even_pieces(self.config.vocab_size, self.tp)
            role: Role = "vocab_embedding" if style == "embedding" else "vocab_head"
            return ParamRule(name=name, role=role, shape=shape, dim=0, ranks=pieces)
        dim = 0 if style == "colwise" else 1
        pieces = self._pieces(name, shape, dim)
        role = "column" if style == "colwise" else "row"
        return ParamRule(name=name, role=role, shape=shape, dim=dim, ranks=pieces)

    def _pieces(self, name: str, shape: tuple[int, ...], dim: int) -> tuple[tuple[Piece, ...], ...]:
        unit = units(self.config)[module_of(name.rpartition(".")[0])]
        if unit == "feature":
            if shape[dim] % self.tp:
                size = f"dim {dim} of {name!r} (size {shape[dim]})"
                message = f"{size} cannot be split over tp={self.tp} ranks"
                raise _DoesNotDivideError(message)
            return even_pieces(shape[dim], self.tp)
        ranks = self.heads.q_ranks if unit == "query" else self.heads.kv_ranks
        return tuple(units_to_pieces(units, self.config.head_dim) for units in ranks)


def _working_tp(config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> str:
    working = []
    for tp in range(1, min(config.num_heads, _LARGEST_TP_TRIED) + 1):
        with suppress(_DoesNotDivideError):
            _plan(config, shapes, tp)
            working.append(str(tp))
    return ", ".join(working)
