"""DeepSeek-V3: DeepSeek-V2 with a learned bias on the router's choice, which checkpoints hold."""

from dataclasses import replace

from neuronc.families.decoders import deepseek_v2
from neuronc.families.family import WHOLE, Family, Fields


def family(fields: Fields) -> Family:
    """Names are those of transformers' ``models/deepseek_v3/modeling_deepseek_v3.py``."""
    base = deepseek_v2.family(fields)
    bias = {"layers.*.mlp.gate.e_score_correction_bias": WHOLE}
    return replace(base, splits={**base.splits, **bias})
