"""Mixtral: every MLP is a set of experts of which a router picks two."""

from neuronc.families.family import WHOLE, Family, Fields
from neuronc.families.parts import ATTENTION, experts, stacked_experts


def family(fields: Fields) -> Family:  # noqa: ARG001
    """Names are those of transformers' ``models/mixtral/modeling_mixtral.py``."""
    return Family(
        splits={**ATTENTION, **experts(), "layers.*.mlp.gate": WHOLE},
        sums=("layers.*.mlp",),
        stacked=stacked_experts("block_sparse_moe.experts", gate="w1", up="w3", down="w2"),
        renamed={".block_sparse_moe.": ".mlp."},
    )
