"""Tiny random checkpoints, made on the spot by transformers itself: seeded, real file formats."""

import json
from pathlib import Path
from typing import Any

TINY_LLAMA: dict[str, Any] = {
    "hidden_size": 36,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 8,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "vocab_size": 128,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
"""Nine query and three KV heads with a head_dim that is not hidden_size / heads."""

_GPT2 = {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 128, "vocab_size": 128}
_SPECIAL_IDS = {name: TINY_LLAMA[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
TINY_OPT: dict[str, Any] = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "ffn_dim": 96,
    "num_hidden_layers": 2,
    "vocab_size": 128,
    "max_position_embeddings": 64,
    **_SPECIAL_IDS,
}
_SIZES: dict[str, dict[str, Any]] = {
    "llama": TINY_LLAMA,
    "mixtral": {**TINY_LLAMA, "num_local_experts": 2},
    "mistral": {**TINY_LLAMA, "sliding_window": None},
    "qwen2": {**TINY_LLAMA, "hidden_size": 72, "head_dim": None},
    "qwen3": TINY_LLAMA,
    "arcee": TINY_LLAMA,
    "gemma": TINY_LLAMA,
    "phi3": {**TINY_LLAMA, "hidden_size": 72, "head_dim": None},
    "glm": {**TINY_LLAMA, "hidden_size": 72},
    "opt": TINY_OPT,
    "gpt2": {**_GPT2, **_SPECIAL_IDS},
    "gptj": {**_GPT2, **_SPECIAL_IDS},
}
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}</s>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_TORCH_NAMES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


def make_checkpoint(
    folder: Path,
    *,
    family: str = "llama",
    seed: int = 0,
    shards: int = 1,
    dtype: str = "f32",
    tokenizer: bool = True,
    **config_overrides: Any,
) -> Path:
    """Save a random model of ``family`` into ``folder`` (made if needed) and return it.

    ``shards`` is the least number of safetensors files. An override of None drops the field.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {**_SIZES[family], **config_overrides}
    config = AutoConfig.for_model(family, **{k: v for k, v in fields.items() if v is not None})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    _fill(model, seed)
    model = model.to(getattr(torch, _TORCH_NAMES[dtype])).eval()
    model.save_pretrained(folder, max_shard_size=_shard_size_bytes(model, shards))
    if tokenizer:
        make_tokenizer(folder, vocab_size=config.vocab_size)
    return folder


def make_tokenizer(folder: Path, *, vocab_size: int = 128) -> Path:
    """Save a byte-pair tokenizer of at most ``vocab_size`` tokens that round-trips printable ASCII."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>"]
    # Byte-level alphabet: printable ASCII stands for itself, a space is written as this letter.
    letters = ["\u0120", "\u010a", *(chr(code) for code in range(33, 127))]
    pairs = ["th", "he", "in", "er", "an", "re", "on", "at", "en", "nd", "ti", "es", "or", "te"]
    tokens = (special + letters + pairs)[:vocab_size]
    merges = [(pair[0], pair[1]) for pair in pairs if pair in tokens]
    bpe = models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges)
    backend = Tokenizer(bpe)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    wrapped.chat_template = _CHAT_TEMPLATE
    wrapped.save_pretrained(folder)
    return folder


def edit_config(folder: Path, **fields: Any) -> None:
    """Change ``fields`` of config.json in ``folder``; None removes one."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text(encoding="utf-8")), **fields}
    kept = {name: value for name, value in config.items() if value is not None}
    path.write_text(json.dumps(kept), encoding="utf-8")


def _fill(model: Any, seed: int) -> None:
    """Weights large enough that every layer matters and no two logits nearly tie."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name or ".ln_" in name:
                is_bias_or_offset = name.endswith("bias") or model.config.model_type == "gemma"
                parameter.copy_(noise * 0.1 + (0.0 if is_bias_or_offset else 1.0))
            else:
                parameter.copy_(noise * 0.3)


def _shard_size_bytes(model: Any, shards: int) -> int:
    sizes: list[int] = [p.numel() * p.element_size() for p in model.parameters()]
    if shards == 1:
        return 2 * sum(sizes)
    return max(sum(sizes) // shards, *sizes)
