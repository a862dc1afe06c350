"""DeepSeek-V2: latent attention; routed and shared experts after the first dense layers."""

from neuronc.families.family import WHOLE, Family, Fields
from neuronc.families.parts import experts, gated_mlp, latent_attention, stacked_experts


def family(fields: Fields) -> Family:
    """Names are those of transformers' ``models/deepseek_v2/modeling_deepseek_v2.py``."""
    shared = fields.size("moe_intermediate_size") * fields.size("n_shared_experts")
    query_rank = fields.get("q_lora_rank")
    kv_rank, rope = fields.size("kv_lora_rank"), fields.size("qk_rope_head_dim")
    return Family(
        splits={
            **latent_attention(
                query_rank=query_rank,
                kv_rank=kv_rank,
                nope=fields.size("qk_nope_head_dim"),
                rope=rope,
                value=fields.size("v_head_dim"),
            ),
            **gated_mlp(optional=True),
            **experts(),
            **gated_mlp("layers.*.mlp.shared_experts", features=shared, partial=True),
            "layers.*.mlp.gate": WHOLE,
        },
        sizes={"num_key_value_heads": "num_attention_heads"},
        cache_width=kv_rank + rope,
        sums=("layers.*.mlp",),
        stacked=stacked_experts(),
    )
