"""Which split a parameter has by its name, and the shape that the config gives it."""

import re
from dataclasses import dataclass
from functools import lru_cache

from neuronc.families.family import WHOLE, Split
from neuronc.families.model_config import ModelConfig
from neuronc.parallel.arrangement import dim_size
from neuronc.parallel.heads import HeadLayout, lay_out_heads

EMBEDDING = re.compile(
    r"(?:.*\.)?(?:embed_tokens|wte|word_embeddings|embed_in|tok_embeddings)\.weight"
)
HEAD = re.compile(r"(?:lm_head|embed_out)\.(?:weight|bias)")
NORM = re.compile(r"(?:.*\.)?(?:\w*norm\w*|ln_\w+)\.(?:weight|bias)")
_NORM = Split(style="whole", is_norm=True)
VOCAB = Split(style="column")
"""Of an embedding table or an LM head: the vocabulary is split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """What a parameter's name says.

    Attributes:
        kind: ``module`` (of the family's splits), ``whole``, ``embedding``, ``head`` or ``norm``.
        pattern: The family's pattern that matched.
        split: How it is split.
        is_bias: Of a linear layer.
    """

    kind: str
    pattern: str
    split: Split
    is_bias: bool = False


def matches(config: ModelConfig, name: str) -> list[Match]:
    """Every rule of the family that ``name`` matches; its own come before the usual names."""
    family = config.family
    found = [
        Match(kind="module", pattern=p, split=split, is_bias=name.endswith(".bias"))
        for p, split in family.splits.items()
        if matches_module(name, p)
    ]
    found += [
        Match(kind="whole", pattern=known, split=WHOLE)
        for known in family.whole
        if is_parameter(name, known)
    ]
    usual = {"embedding": EMBEDDING, "head": HEAD, "norm": NORM}
    return found or [
        Match(kind=kind, pattern="", split=_NORM if kind == "norm" else VOCAB)
        for kind, pattern in usual.items()
        if pattern.fullmatch(name)
    ]


@lru_cache(maxsize=512)
def _pattern(module: str) -> re.Pattern[str]:
    escaped = re.escape(module).replace(r"\*", r"\d+")
    return re.compile(rf"(?:.*\.)?{escaped}(?:\.(?:weight|bias))?")


def matches_module(name: str, pattern: str) -> bool:
    """Whether ``name`` is the module, or a parameter of the module, that ``pattern`` stands for."""
    return _pattern(pattern).fullmatch(name) is not None


def is_parameter(name: str, known: str) -> bool:
    """Whether ``name`` is parameter ``known``, with or without the base model's prefix."""
    return name == known or name.endswith(f".{known}")


def is_partial(config: ModelConfig, name: str) -> bool:
    """Whether what a rank computes with ``name`` is a part that a module around it sums up."""
    return any(m.split.partial or m.split.experts for m in matches(config, name))


def is_linear_weight(name: str, shape: tuple[int, ...], match: Match) -> bool:
    """Whether a parameter is the weight matrix of a row- or column-parallel linear layer."""
    split = match.split
    is_linear = match.kind == "module" and split.style in ("column", "row") and split.dim is None
    return is_linear and not split.experts and name.endswith(".weight") and len(shape) == 2


def split_dim(config: ModelConfig, match: Match, rank: int) -> int:
    """The dim of a parameter of ``rank`` dims that its split is about."""
    if match.split.dim is not None:
        return match.split.dim
    if rank == 1:
        return 0
    is_column = match.split.style == "column"
    return int(is_column) if config.family.in_out else int(not is_column)


def expected_shape(
    config: ModelConfig, heads: HeadLayout, name: str, match: Match
) -> tuple[int, ...] | None:
    """The shape that ``config`` gives parameter ``name``, if it tells.

    Norms inside attention have no one answer: most work on a head, some on all heads.
    """
    if match.kind in ("embedding", "head"):
        vocab = config.vocab_size
        return (vocab,) if name.endswith(".bias") else (vocab, config.embedding_size)
    if match.kind == "whole":
        return config.family.whole[match.pattern]
    if match.kind == "norm":
        return None if "attn" in name or "attention." in name else (config.hidden_size,)
    return _linear_shape(config, heads, match)


def config_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Parameters of a described family whose shapes ``config`` gives by itself: most of the bytes.

    Weights of linear layers that every layer has, and embedding and LM head.
    """
    heads = lay_out_heads(config.num_heads, config.num_kv_heads, 1)
    table = (config.vocab_size, config.embedding_size)
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": table}
    if config.embedding is None and not config.tie_word_embeddings:
        shapes["lm_head.weight"] = table
    for pattern, split in config.family.splits.items():
        match = Match(kind="module", pattern=pattern, split=split)
        shape = None if split.optional else _linear_shape(config, heads, match)
        for layer in range(config.num_layers if shape else 0):
            shapes[f"{pattern.replace('*', str(layer))}.weight"] = shape or ()
    return shapes


def _linear_shape(config: ModelConfig, heads: HeadLayout, match: Match) -> tuple[int, ...] | None:
    split = match.split
    if split.style == "whole" or split.experts or split.dim is not None:
        return None
    size = dim_size(split, heads, config.head_dim)
    if size is None:
        features = split.features or config.intermediate_size
        if features is None:
            return None
        size = features * len(split.parts)
    other = split.inner_size or config.hidden_size
    if match.is_bias:
        return (size if split.style == "column" else other,)
    is_column = split.style == "column"
    return (other, size) if is_column == config.family.in_out else (size, other)
