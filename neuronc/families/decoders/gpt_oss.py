"""gpt-oss: experts with biases, gate and up interleaved; a learned sink for every query head."""

from neuronc.families.family import WHOLE, Family, Fields, Part, columns
from neuronc.families.parts import ATTENTION

_PAIR = Part(unit="feature", width=2)  # a gate and an up column lie side by side


def family(fields: Fields) -> Family:  # noqa: ARG001
    """Names are those of transformers' ``models/gpt_oss/modeling_gpt_oss.py``."""
    return Family(
        splits={
            **ATTENTION,
            "layers.*.self_attn.sinks": columns(Part(unit="query", width=1), dim=0),
            "layers.*.mlp.router": WHOLE,
            "layers.*.mlp.experts.gate_up_proj": columns(_PAIR, dim=2, experts=True),
            "layers.*.mlp.experts.gate_up_proj_bias": columns(_PAIR, dim=1, experts=True),
            "layers.*.mlp.experts.down_proj": columns("feature", dim=1, experts=True),
            "layers.*.mlp.experts.down_proj_bias": columns(experts=True),
        },
        sums=("layers.*.mlp.experts",),
    )
