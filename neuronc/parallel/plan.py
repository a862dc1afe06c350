"""The parallel plan: exactly one rule for every parameter, or a refusal that names it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from neuronc.errors import PlanError
from neuronc.families.model_config import ModelConfig
from neuronc.parallel.heads import HeadLayout, lay_out_heads
from neuronc.parallel.rules import ParamRule, Piece, even_pieces, units_to_pieces

_LARGEST_TP_TRIED = 64
_EMBEDDING = re.compile(r"(?:.*\.)?embed_tokens\.weight")
_HEAD = re.compile(r"lm_head\.(?:weight|bias)")
_NORM = re.compile(r"(?:.*\.)?\w*norm\w*\.(?:weight|bias)")
_STYLES = ("colwise", "rowwise", "replicated_with_grad_allreduce")


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

    Raises:
        PlanError: a parameter has no rule, more than one, or a dim that ``tp`` does not divide;
            the message names the dim, its size and the tp degrees that work.
    """
    if tp > config.num_heads:
        message = f"num_attention_heads={config.num_heads} cannot be split over tp={tp} ranks"
        raise PlanError(message, hint=_working_tp(config, shapes))
    heads = lay_out_heads(config.num_heads, config.num_kv_heads, tp)
    planner = _Planner(config, heads, tp)
    try:
        rules = {name: planner.rule(name, shape) for name, shape in shapes.items()}
    except _DoesNotDivideError as error:
        raise PlanError(str(error), hint=_working_tp(config, shapes)) from None
    return ParallelPlan(tp=tp, rules=rules, heads=heads, vocab_per_rank=-(-config.vocab_size // tp))


class _DoesNotDivideError(Exception):
    pass


class _Planner:
    def __init__(self, config: ModelConfig, heads: HeadLayout, tp: int) -> None:
        self.config, self.heads, self.tp = config, heads, tp
        self.patterns = [
            (re.compile(r"(?:.*\.)?" + re.escape(p).replace(r"\*", r"\d+") + r"\.(weight|bias)"), s)
            for p, s in config.tp_plan.items()
        ]

    def rule(self, name: str, shape: tuple[int, ...]) -> ParamRule:
        styles = [style for pattern, style in self.patterns if pattern.fullmatch(name)]
        styles += [style for style in _OWN_RULES if _OWN_RULES[style].fullmatch(name)]
        if self.tp == 1:
            return ParamRule(name=name, role="replicate", shape=shape)
        if len(styles) > 1 and set(styles) != {"replicated_with_grad_allreduce", "replicate"}:
            message = f"{len(styles)} sharding rules match {name!r}: {', '.join(styles)}"
            raise PlanError(message, hint="make the patterns of the family's tp plan exclusive")
        if not styles:
            message = f"no sharding rule matches {name!r} (shape {list(shape)})"
            hint = f"family {self.config.model_type!r} is not supported at tp > 1 yet; use --tp 1"
            raise PlanError(message, hint=hint)
        return self._apply(styles[0], name, shape)

    def _apply(self, style: str, name: str, shape: tuple[int, ...]) -> ParamRule:
        if style in ("replicate", "replicated_with_grad_allreduce"):
            return ParamRule(name=name, role="replicate", shape=shape)
        if style in ("vocab_embedding", "vocab_head"):
            pieces = even_pieces(self.config.vocab_size, self.tp)
            role = "vocab_embedding" if style == "vocab_embedding" else "vocab_head"
            return ParamRule(name=name, role=role, shape=shape, dim=0, ranks=pieces)  # type: ignore[arg-type]
        if style == "colwise":
            pieces = self._pieces(name, shape, dim=0)
            return ParamRule(name=name, role="column", shape=shape, dim=0, ranks=pieces)
        if style == "rowwise" and len(shape) == 1:
            # The bias of a row-parallel linear is added once, after the all-reduce.
            return ParamRule(name=name, role="replicate", shape=shape)
        if style == "rowwise":
            pieces = self._pieces(name, shape, dim=1)
            return ParamRule(name=name, role="row", shape=shape, dim=1, ranks=pieces)
        message = f"split style {style!r} of {name!r} is not supported; neuronc knows {_STYLES}"
        raise PlanError(message, hint="use --tp 1 for this family")

    def _pieces(self, name: str, shape: tuple[int, ...], dim: int) -> tuple[tuple[Piece, ...], ...]:
        module = name.split(".")[-2]
        if module in ("q_proj", "o_proj"):
            return self._head_pieces(name, shape[dim], self.heads.q_ranks, self.config.num_heads)
        if module in ("k_proj", "v_proj"):
            kv_heads = self.config.num_kv_heads
            return self._head_pieces(name, shape[dim], self.heads.kv_ranks, kv_heads)
        if shape[dim] % self.tp:
            message = f"dim {dim} of {name!r} (size {shape[dim]}) cannot be split over tp={self.tp}"
            raise _DoesNotDivideError(message)
        return even_pieces(shape[dim], self.tp)

    def _head_pieces(
        self, name: str, size: int, ranks: tuple[tuple[int | None, ...], ...], count: int
    ) -> tuple[tuple[Piece, ...], ...]:
        if size != count * self.config.head_dim:
            message = (
                f"{name!r} has {size} rows or columns; expected {count} heads of head_dim"
                f" {self.config.head_dim} = {count * self.config.head_dim}"
            )
            raise PlanError(message, hint="check num_attention_heads and head_dim in config.json")
        return tuple(units_to_pieces(units, self.config.head_dim) for units in ranks)


_OWN_RULES = {"vocab_embedding": _EMBEDDING, "vocab_head": _HEAD, "replicate": _NORM}


def _working_tp(config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> str:
    working = []
    for tp in range(1, min(config.num_heads, _LARGEST_TP_TRIED) + 1):
        planner = _Planner(config, lay_out_heads(config.num_heads, config.num_kv_heads, tp), tp)
        try:
            for name, shape in shapes.items():
                planner.rule(name, shape)
        except _DoesNotDivideError:
            continue
        working.append(str(tp))
    return f"tp degrees that work: {', '.join(working)}"
