"""LoRA adapters of tiny checkpoints: written by hand, or made and merged by PEFT itself."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

Arrays = dict[str, np.ndarray[Any, Any]]
UP = "model.layers.0.mlp.up_proj"
CONFIG: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 3, "peft_version": "0.21.2"}
RANDOM = np.random.default_rng(0)
A = RANDOM.standard_normal((2, 36), np.float32)
B = RANDOM.standard_normal((96, 2), np.float32)

Tensors = Mapping[str, "np.ndarray[Any, Any] | None"]


def named(module: str, a: Any = A, b: Any = B) -> dict[str, Any]:
    prefix = f"base_model.model.{module}"
    return {f"{prefix}.lora_A.weight": a, f"{prefix}.lora_B.weight": b}


def write_adapter(folder: Path, tensors: Tensors | None = None, **config: Any) -> Path:
    """An adapter of the first up projection; ``tensors`` and ``config`` change it, None drops."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
    merged = {**named(UP), **(tensors or {})}
    kept = {name: np.array(t) for name, t in merged.items() if t is not None}
    save_file(kept, folder / "adapter_model.safetensors")
    return folder


def make_adapter(checkpoint: Path, folder: Path, *, seed: int = 0, **config: Any) -> Path:
    """Save an adapter of ``checkpoint`` with random factors into ``folder``.

    ``config`` are fields of PEFT's ``LoraConfig``.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(_load(checkpoint), LoraConfig(task_type="CAUSAL_LM", **config))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    model.save_pretrained(folder)
    return folder


def merged_by_peft(checkpoint: Path, adapter: Path) -> Arrays:
    """Every parameter after PEFT's ``merge_and_unload``; bf16 and f16 widened to f32."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(_load(checkpoint), adapter).merge_and_unload()
    return {name: p.detach().float().numpy() for name, p in model.named_parameters()}


def _load(checkpoint: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype="auto")
