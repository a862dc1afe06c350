"""Splits that many families share, for their files to put together."""

from neuronc.families.family import WHOLE, Part, Split, columns, rows

ATTENTION: dict[str, Split] = {
    "layers.*.self_attn.q_proj": columns("query"),
    "layers.*.self_attn.k_proj": columns("kv"),
    "layers.*.self_attn.v_proj": columns("kv"),
    "layers.*.self_attn.o_proj": rows("query"),
}
"""Query, key and value in projections of their own."""


def gated_mlp(
    module: str = "layers.*.mlp",
    *,
    features: int | None = None,
    partial: bool = False,
    optional: bool = False,
) -> dict[str, Split]:
    """Gate, up and down projections."""
    ways = {"features": features, "optional": optional}
    return {
        f"{module}.gate_proj": columns("feature", **ways),
        f"{module}.up_proj": columns("feature", **ways),
        f"{module}.down_proj": rows("feature", partial=partial, **ways),
    }


def experts(module: str = "layers.*.mlp.experts") -> dict[str, Split]:
    """Experts as transformers keeps them: ``[experts, 2 * features, hidden]`` and back."""
    return {
        f"{module}.gate_up_proj": columns("feature", "feature", dim=1, experts=True),
        f"{module}.down_proj": columns("feature", dim=2, experts=True),
    }


def stacked_experts(
    source: str = "mlp.experts",
    *,
    gate: str = "gate_proj",
    up: str = "up_proj",
    down: str = "down_proj",
) -> dict[str, tuple[str, ...]]:
    """Where checkpoints have each expert's projections in tensors of their own."""
    return {
        "mlp.experts.gate_up_proj": (f"{source}.#.{gate}.weight", f"{source}.#.{up}.weight"),
        "mlp.experts.down_proj": (f"{source}.#.{down}.weight",),
    }


def latent_attention(
    *, query_rank: int | None, kv_rank: int, nope: int, rope: int, value: int
) -> dict[str, Split]:
    """DeepSeek's multi-head latent attention: what is cached is small, and whole on every rank."""
    query = Part(unit="query", width=nope + rope)
    low_rank = {
        "layers.*.self_attn.q_a_proj": WHOLE,
        "layers.*.self_attn.q_a_layernorm": WHOLE,
        "layers.*.self_attn.q_b_proj": columns(query, inner_size=query_rank),
    }
    return {
        **(low_rank if query_rank else {"layers.*.self_attn.q_proj": columns(query)}),
        "layers.*.self_attn.kv_a_proj_with_mqa": WHOLE,
        "layers.*.self_attn.kv_a_layernorm": WHOLE,
        "layers.*.self_attn.kv_b_proj": columns(
            Part(unit="query", width=nope + value), inner_size=kv_rank
        ),
        "layers.*.self_attn.o_proj": rows(Part(unit="query", width=value)),
    }
